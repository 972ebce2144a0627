// hello_cgi.rs: a web page by CGI, with nothing but Rust's standard library.
//
// rustc --target wasm32-wasi -O -C strip=symbols hello_cgi.rs -o hello_cgi.wasm

use std::env;
use std::io::{self, Read};

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

fn main() -> io::Result<()> {
    let mut body = String::new();
    io::stdin().read_to_string(&mut body)?;
    print!("Content-Type: text/plain; charset=utf-8\r\n\r\n");
    println!("{} {}{}", variable("REQUEST_METHOD"), variable("SCRIPT_NAME"), variable("PATH_INFO"));
    for argument in env::args().skip(1) {
        println!("argument: {argument}");
    }
    if !body.is_empty() {
        println!("body: {body}");
    }
    eprintln!("{} bytes of body", body.len());
    Ok(())
}
