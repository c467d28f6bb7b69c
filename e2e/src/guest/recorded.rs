//! Containers that are only recorded: a cgroup and what runc would have written, for tests that need thousands.

use super::context::Context;
use super::error::{OnFile, Result};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Where their cgroups are made.
const CGROUPS: &str = "/sys/fs/cgroup/recorded";

/// Containers as runc records them, without any process. Gone on drop.
pub(crate) struct Recorded {
    pub(crate) work: PathBuf,
    ids: Vec<String>,
}

impl Recorded {
    /// None yet.
    pub(crate) fn begin(context: &Context) -> Result<Recorded> {
        let work = context.work.join("recorded");
        std::fs::create_dir_all(&work).on("create", &work)?;
        Ok(Recorded { work, ids: Vec::new() })
    }

    /// A bundle whose root is the folder `root`.
    pub(crate) fn bundle(&self, name: &str, root: &Path) -> Result<PathBuf> {
        let folder = self.work.join(name);
        std::fs::create_dir_all(&folder).on("create", &folder)?;
        let config = folder.join("config.json");
        std::fs::write(&config, json!({"root": {"path": root}}).to_string()).on("write", &config)?;
        Ok(folder)
    }

    /// A container of that bundle.
    pub(crate) fn add(&mut self, id: &str, bundle: &Path) -> Result<()> {
        let (cgroup, state) = (Path::new(CGROUPS).join(id), Path::new("/run/runc").join(id));
        self.ids.push(id.to_owned());
        // In the order that runc has.
        for folder in [&state, &cgroup] {
            std::fs::create_dir_all(folder).on("create", folder)?;
        }
        let file = state.join("state.json");
        let label = format!("bundle={}", bundle.display());
        let text = json!({"id": id, "cgroup_paths": {"": cgroup}, "config": {"labels": [label]}}).to_string();
        std::fs::write(&file, text).on("write", &file)
    }

    /// The first `number` of them end.
    pub(crate) fn remove(&mut self, number: usize) {
        for id in self.ids.drain(..number.min(self.ids.len())) {
            let _ = std::fs::remove_dir_all(Path::new("/run/runc").join(&id));
            let _ = std::fs::remove_dir(Path::new(CGROUPS).join(&id));
        }
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.remove(usize::MAX);
        let _ = std::fs::remove_dir(CGROUPS);
        let _ = std::fs::remove_dir_all(&self.work);
    }
}
