"""What is measured of a patient, once, and shared by all checks."""
