//! The CDI folders' health: one broken file there fails every sandbox that asks for a CDI device.
