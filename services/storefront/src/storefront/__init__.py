"""The HTTP edge of the shop: requests become commands, and events become answers."""
