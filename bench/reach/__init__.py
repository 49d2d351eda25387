"""How a target is reached: this machine, an emulator, a board."""
