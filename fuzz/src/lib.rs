//! What every fuzz target is: the decoder of the crate `decoders` that has its name, under libFuzzer.

#![forbid(unsafe_code)]

pub use {libfuzzer_sys, tanist_decoders};

/// The target of the decoder with this name.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        $crate::libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
            let decoder = $crate::tanist_decoders::named($name).expect("every target has its decoder");
            // To be refused is no find.
            let _ = decoder.read(bytes);
        });
    };
}
