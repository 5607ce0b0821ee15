"""One package per framework; importing this one imports none of them."""
