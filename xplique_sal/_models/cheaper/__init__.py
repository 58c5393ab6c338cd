"""The same function, cheaper to differentiate. Private."""
