#![cfg_attr(any(fuzzing, feature = "libfuzzer"), no_main)]

vgpud_fuzz::fuzz!(layout_import);
