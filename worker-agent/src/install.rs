//! `rouse-agent install DIR`: put this very binary into a directory, so that an image with nothing but the agent can fill a volume.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use thiserror::Error;

const NAME: &str = "rouse-agent";

#[derive(Debug, Error)]
pub enum InstallError {
    #[error("read the agent's own binary")]
    Own(#[source] io::Error),
    #[error("write {NAME} into {dir}")]
    Write { dir: String, source: io::Error },
}

/// Write, flush, rename: whoever looks sees a whole agent or none, also when several do this at once.
pub fn install(dir: &Path) -> Result<(), InstallError> {
    let own = File::open("/proc/self/exe").map_err(InstallError::Own)?;
    copy(own, dir).map_err(|source| InstallError::Write { dir: dir.display().to_string(), source })
}

fn copy(mut own: File, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let unfinished = dir.join(format!(".{NAME}.{}", hex::encode(crate::random::bytes::<8>())));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(&unfinished)?;
        io::copy(&mut own, &mut file)?;
        file.set_permissions(Permissions::from_mode(0o755))?;
        file.sync_all()?;
        fs::rename(&unfinished, dir.join(NAME))?;
        File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        // Gone already if the rename was done.
        let _ = fs::remove_file(&unfinished);
    }
    written
}
