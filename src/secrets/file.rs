//! Files that hold a secret: read only where not everybody can.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Longer values are no secrets that a person has written.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a file's content was not taken. Never says what it is.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("it cannot be read")]
    Read(#[source] std::io::Error),
    #[error("it can be read by everybody (mode {mode:o}); run: chmod o-rwx {path}")]
    Mode { path: String, mode: u32 },
    #[error("it has more than {MAX_BYTES} bytes")]
    Long,
    #[error("it is not text")]
    NotText,
}

/// The content, as it is.
pub(super) fn read(path: &Path) -> Result<String, FileError> {
    let meta = std::fs::metadata(path).map_err(FileError::Read)?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(FileError::Mode { path: path.display().to_string(), mode });
    }
    if meta.len() > MAX_BYTES {
        return Err(FileError::Long);
    }
    let bytes = std::fs::read(path).map_err(FileError::Read)?;
    String::from_utf8(bytes).map_err(|_| FileError::NotText)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_everybody_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "value\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = read(&path).unwrap_err();
        assert!(matches!(refused, FileError::Mode { mode: 0o644, .. }));
        assert!(refused.to_string().contains("chmod o-rwx"), "{refused}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&path).unwrap(), "value\n");
    }
}
