"""Networks and their segmenters (needs the extra [torch])."""
