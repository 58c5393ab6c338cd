"""From f, g and a batch to maps. Private."""
