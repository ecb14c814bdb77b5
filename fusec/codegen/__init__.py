"""Groups to kernel text, and kernel text to machine code."""
