// count.rs: counts lines, words and bytes of standard input; see count.c.
use std::io::Read;

fn main() {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).expect("UTF-8 on standard input");
    let lines = text.matches('\n').count();
    println!("{} lines, {} words, {} bytes", lines, text.split_whitespace().count(), text.len());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    for argument in &arguments {
        println!("argument: {}", argument);
    }
    std::process::exit(if arguments.is_empty() { 3 } else { 0 });
}
