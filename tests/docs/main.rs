//! What is written about the program says what the program does: manual pages, shell completions and the JSON Schema
//! are held against the tables of the code. `UPDATE=1 cargo test --test docs` writes anew what is generated: the
//! schema and the completions.

mod completions;
mod facts;
mod man;
mod patterns;
mod schema;
mod shells;
#[path = "../e2e/skip.rs"]
mod skip;
mod values;
