"""What travels: codes, reasons, and (with the channel protocol) commands, replies and pushes."""
