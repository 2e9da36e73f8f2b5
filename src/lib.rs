//! vgpud
