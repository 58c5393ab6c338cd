"""Inputs and targets in any form, as checked batches. Private."""
