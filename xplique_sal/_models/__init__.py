"""f: any model as one function. Private."""
