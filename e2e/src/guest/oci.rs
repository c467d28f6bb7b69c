//! runc and crun, driven directly.

use super::bundle::{Bundle, Volumes};
use super::error::{Result, ensure};
use super::image::Image;
use super::runtime::{Runtime, Shape, Upper};
use super::session::Session;
use super::system::{Ended, run_within};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A low-level runtime and the bundles of its running containers.
#[derive(Debug)]
pub(crate) struct OciRuntime {
    program: PathBuf,
    options: Vec<String>,
    work: PathBuf,
    image: Image,
    bundles: RefCell<HashMap<String, Bundle>>,
}

const LIMIT: Duration = Duration::from_mins(1);

impl OciRuntime {
    /// Drives `program` with `options` before each subcommand.
    pub(crate) fn new(program: &Path, options: &[&str], work: &Path, image: &Image) -> OciRuntime {
        OciRuntime {
            program: program.to_owned(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            work: work.to_owned(),
            image: image.clone(),
            bundles: RefCell::default(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.options).args(arguments);
        command
    }

    fn must(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(arguments);
        let ended = run_within(&mut command, LIMIT)?;
        ensure(ended.status.success(), || format!("{command:?} ended with {}: {}", ended.status, ended.output))?;
        Ok(ended.output)
    }

    fn bundle(&self, id: &str, shape: Shape, arguments: &[&str]) -> Result<String> {
        let volumes = Volumes::make(&self.work, id, &self.image.path("/fix/tiny"))?;
        let bundle = Bundle::make(&self.work, &self.image.root, &volumes, id, shape, arguments)?;
        let dir = bundle.dir.to_string_lossy().into_owned();
        self.bundles.borrow_mut().insert(id.to_owned(), bundle);
        Ok(dir)
    }
}

impl Runtime for OciRuntime {
    fn uppers(&self) -> &'static [Upper] {
        &[Upper::Ext4, Upper::Tmpfs]
    }

    fn start(&self, id: &str, shape: Shape) -> Result<Session> {
        let dir = self.bundle(id, shape, &["/usr/bin/probe", "serve"])?;
        Session::open(&mut self.command(&["run", "-d", "--bundle", &dir, id]))
    }

    fn start_command(&self, id: &str, arguments: &[&str]) -> Result<()> {
        let dir = self.bundle(id, Shape::Overlay(Upper::Ext4), arguments)?;
        self.must(&["run", "-d", "--bundle", &dir, id]).map(drop)
    }

    fn exec(&self, id: &str, arguments: &[&str]) -> Result<Ended> {
        let mut command = self.command(&["exec", id]);
        run_within(command.args(arguments), LIMIT)
    }

    fn kill(&self, id: &str) -> Result<()> {
        self.must(&["kill", id, "KILL"]).map(drop)
    }

    fn remove(&self, id: &str) -> Result<()> {
        let deleted = self.must(&["delete", "--force", id]).map(drop);
        self.bundles.borrow_mut().remove(id);
        deleted
    }
}
