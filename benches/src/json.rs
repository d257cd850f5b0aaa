//! The rows as a file.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};

use crate::targets::Row;

/// Fails now if [`write()`] would fail after all was measured.
pub(crate) fn check(path: &Path) -> Result<()> {
    File::options().create(true).append(true).open(path).with_context(|| path.display().to_string())?;
    Ok(())
}

/// Writes an array with an object for each row.
pub(crate) fn write(path: &Path, rows: &[Row]) -> Result<()> {
    fs::write(path, text(rows)?).with_context(|| path.display().to_string())
}

fn text(rows: &[Row]) -> Result<String> {
    Ok(serde_json::to_string_pretty(rows)? + "\n")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::targets::Sense;

    fn row() -> Row {
        Row {
            case: "wake".to_owned(),
            size: 64,
            ours: Some(5.5),
            reference: Some(5.0),
            ratio: Some(1.125),
            target: Some(1.1),
            sense: Some(Sense::Max),
            met: Some(false),
            options: String::new(),
            why: None,
        }
    }

    #[test]
    fn it_is_an_array_of_objects_with_all_keys() {
        let default = Row { target: None, sense: None, met: None, ..row() };
        let missing = Row {
            ours: None,
            reference: None,
            ratio: None,
            sense: Some(Sense::Min),
            why: Some("it hangs".to_owned()),
            ..row()
        };
        let found: Value = serde_json::from_str(&text(&[row(), default, missing]).unwrap()).unwrap();
        let expected = json!([
            {"case": "wake", "size": 64, "ours": 5.5, "reference": 5.0, "ratio": 1.125, "target": 1.1,
             "sense": "max", "met": false, "options": "", "why": null},
            {"case": "wake", "size": 64, "ours": 5.5, "reference": 5.0, "ratio": 1.125, "target": null,
             "sense": null, "met": null, "options": "", "why": null},
            {"case": "wake", "size": 64, "ours": null, "reference": null, "ratio": null, "target": 1.1,
             "sense": "min", "met": false, "options": "", "why": "it hangs"},
        ]);
        assert_eq!(found, expected);
        assert_eq!(serde_json::from_str::<Value>(&text(&[]).unwrap()).unwrap(), json!([]));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_refused_before_anything_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        let good = folder.path().join("rows.json");
        check(&good).unwrap();
        write(&good, &[row()]).unwrap();
        write(&good, &[]).unwrap();
        assert_eq!(fs::read_to_string(&good).unwrap(), "[]\n");
        assert!(check(&folder.path().join("absent/rows.json")).is_err());
    }
}
