"""FPGAs by simulation: hls4ml's C simulation, da4ml's RTL in Verilator, and yosys; no vendor tool."""
