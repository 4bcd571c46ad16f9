"""What people look at: tables, pictures, and the statistics of a comparison."""
