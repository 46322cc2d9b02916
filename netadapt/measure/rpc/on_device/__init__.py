"""What runs on a board: one file that needs only Python and TVM's runtime."""
