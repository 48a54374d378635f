"""What a kernel prints, and does, when it dies: the functions that guest text calls on its way down."""
