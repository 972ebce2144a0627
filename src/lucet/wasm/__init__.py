"""The WebAssembly language: binary format, validation, types. Knows nothing of compiling or running."""
