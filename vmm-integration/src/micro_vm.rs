//! A micro-VM that owns one slice: QEMU's command line and its life.
