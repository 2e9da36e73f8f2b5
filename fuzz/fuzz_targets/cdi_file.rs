#![cfg_attr(any(fuzzing, feature = "libfuzzer"), no_main)]

vgpud_fuzz::fuzz!(cdi_file);
