//! What the program `peer` does.

pub(crate) mod forked;
pub(crate) mod handed;

/// The machine does not allow what a test needs.
#[derive(Debug)]
pub(crate) struct NotPermitted(pub(crate) &'static str);

impl std::fmt::Display for NotPermitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NotPermitted {}
