"""Where experts live: placements for expected loads, their bounds, and what checks them."""
