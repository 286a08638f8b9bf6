"""Reports as tables, pictures and JUnit XML."""
