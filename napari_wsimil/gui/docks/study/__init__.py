"""Study dock."""
