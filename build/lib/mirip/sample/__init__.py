"""The embedded sample: procedural still lifes by made-up artists, and a backbone of random weights."""
