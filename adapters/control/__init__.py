"""Control units: any control net of the host, with its window and its resize rule."""
