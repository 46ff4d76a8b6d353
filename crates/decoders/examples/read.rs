//! Gives files to one decoder and prints what it says: `cargo run -p tanist-decoders --example read NAME FILE...`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(decoder) = arguments.next().and_then(|name| tanist_decoders::named(&name)) else {
        eprintln!("usage: read NAME FILE..., where NAME is a directory of fuzz/corpus");
        return ExitCode::from(2);
    };
    for file in arguments {
        match std::fs::read(&file) {
            Ok(bytes) => match decoder.read(&bytes) {
                Ok(()) => println!("{file}: understood"),
                Err(words) => println!("{file}: {words}"),
            },
            Err(error) => println!("{file}: {error}"),
        }
    }
    ExitCode::SUCCESS
}
