//! `cluster`: a real Kubernetes cluster on this machine, with guests as nodes, for tests and the daily loop.

use std::io::{self, IsTerminal as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use mooring_e2e::cluster::{
    CgroupDriver, Cluster, Component, Error, HelmVersion, Image, Images, Node, NodeOptions, Options, write_image,
};
use mooring_e2e::vm::apt::Mirror;
use mooring_e2e::vm::boot::Payload;
use mooring_e2e::vm::kernels::Kernel;
use mooring_e2e::vm::progress::{Step, say};

/// Where make's cluster is.
const DIR: &str = "target/cluster";

/// A real Kubernetes cluster on this machine, with guests as nodes.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The cluster's folder.
    #[arg(long, global = true, default_value = DIR, value_name = "DIR")]
    dir: PathBuf,
    /// Debian's mirror, instead of the one in this machine's apt sources.
    #[arg(long, global = true, value_name = "URL")]
    mirror: Option<String>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Starts a cluster and leaves it running.
    Up {
        /// How many guests join it as nodes.
        #[arg(long, default_value_t = 1)]
        nodes: u32,
        /// Return when they have booted, before they are Ready.
        #[arg(long, conflicts_with = "images")]
        no_wait: bool,
        #[command(flatten)]
        guests: Guests,
    },
    /// Puts Mooring into the cluster, or newer builds of it, and waits until each node enforces.
    Install {
        /// The folder with both images, as `make images` leaves them.
        #[arg(long, value_name = "DIR")]
        images: PathBuf,
    },
    /// Boots one more node.
    Node {
        /// Its name.
        name: String,
        #[command(flatten)]
        guest: Guests,
    },
    /// Adds nodes that kwok plays.
    Kwok {
        /// How many.
        count: usize,
    },
    /// Says what runs, and where the logs are.
    Status,
    /// Runs kubectl as the administrator.
    Kubectl {
        /// kubectl's arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Prints what a shell needs for kubectl and Helm: eval "$(cluster env)".
    Env,
    /// Prints the path of a kubeconfig: the administrator's, any user's, or a service account's.
    Kubeconfig {
        /// A user's name; a kubelet's is `system:node:NAME`, with the group `system:nodes`.
        #[arg(long)]
        user: Option<String>,
        /// A group of the user's; may be repeated.
        #[arg(long = "group", requires = "user")]
        groups: Vec<String>,
        /// A service account.
        #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with = "user")]
        account: Option<String>,
        /// The node that the account's token is bound to.
        #[arg(long, requires = "account")]
        node: Option<String>,
    },
    /// Runs a command as root on a node, outside of any container; its exit status is the command's.
    Exec {
        /// The node.
        node: String,
        /// Pass standard input on.
        #[arg(short, long)]
        input: bool,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Writes an image of a few files and nothing else.
    Image {
        /// Its full name: docker.io/mooring/enforcer:dev.
        name: String,
        /// A file and its path in the image; may be repeated.
        #[arg(long = "file", value_name = "FILE:PATH", required = true)]
        files: Vec<Payload>,
        /// The program that its containers run; unless it is said, the first file.
        #[arg(long)]
        entrypoint: Option<String>,
        /// UID or UID:GID; root unless it is said.
        #[arg(long, default_value = "")]
        user: String,
        /// The tar file.
        #[arg(long, value_name = "TAR")]
        out: PathBuf,
    },
    /// Gives nodes an image.
    Load {
        /// Tar files: OCI archives or docker's.
        #[arg(required = true)]
        images: Vec<PathBuf>,
        /// The node; all unless it is said.
        #[arg(long)]
        node: Option<String>,
    },
    /// Ends the cluster and removes its folder.
    Down,
}

#[derive(Debug, Args)]
struct Guests {
    /// The kernel.
    #[arg(long, default_value = "6.12")]
    kernel: Kernel,
    /// Memory in MiB.
    #[arg(long, default_value_t = 2048)]
    memory: u32,
    /// An image to load once the node is up; may be repeated.
    #[arg(long = "image", value_name = "TAR")]
    images: Vec<PathBuf>,
    /// A newer containerd and runc than the guests' own, for user namespaces of pods and image volumes.
    #[arg(long)]
    newer_runtime: bool,
    /// Who makes its pods' cgroups.
    #[arg(long, value_enum, default_value = "cgroupfs")]
    cgroup_driver: CgroupDriver,
    /// Keep what is written below /var/lib when it is switched off.
    #[arg(long)]
    keeps_disk: bool,
}

fn main() -> ExitCode {
    match act(&Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(cli: &Cli) -> anyhow::Result<u8> {
    match &cli.action {
        Action::Up { nodes, no_wait, guests } => up(cli, *nodes, *no_wait, guests)?,
        Action::Install { images } => {
            Cluster::open(&cli.dir)?.install(&Images::in_folder(images)?)?;
            println!("\nMooring enforces on every node. What to type next:\n");
            println!("    helm test mooring --namespace mooring-system --logs");
            println!("    kubectl get cdp,dn");
            println!("    kubectl apply -f deploy/examples/detect-everything.yaml");
            println!("    kubectl get driftevents -A");
        }
        Action::Node { name, guest } => start(&Cluster::open(&cli.dir)?, std::slice::from_ref(name), true, guest)?,
        Action::Kwok { count } => Cluster::open(&cli.dir)?.add_kwok_nodes(*count)?,
        Action::Status => status(&Cluster::open(&cli.dir)?)?,
        Action::Kubectl { arguments } => {
            let error = Cluster::open(&cli.dir)?.kubectl().command().args(arguments).exec();
            return Err(error).context("cannot run kubectl");
        }
        Action::Env => environment(&Cluster::open(&cli.dir)?)?,
        Action::Kubeconfig { user, groups, account, node } => {
            let cluster = Cluster::open(&cli.dir)?;
            let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
            let kubectl = match (user, account) {
                (Some(user), _) => cluster.kubectl_as(user, &groups)?,
                (None, Some(account)) => {
                    let (namespace, name) = account.split_once('/').context("--account: write NAMESPACE/NAME")?;
                    cluster.kubectl_of_account(namespace, name, node.as_deref())?
                }
                (None, None) => cluster.kubectl(),
            };
            println!("{}", kubectl.kubeconfig().display());
        }
        Action::Exec { node, input, command } => {
            let node = Cluster::open(&cli.dir)?.node(node)?;
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            let mut shown = io::stdout();
            let ended = if *input {
                node.exec_with(&words, &mut io::stdin(), &mut shown)?
            } else {
                node.exec_with(&words, &mut io::empty(), &mut shown)?
            };
            return Ok(ended.code);
        }
        Action::Image { name, files, entrypoint, user, out } => {
            let first = files.first().map(|file| file.path.clone());
            let entrypoint: Vec<String> = entrypoint.clone().or(first).into_iter().collect();
            write_image(out, &Image { name, entrypoint: &entrypoint, command: &[], user }, files)?;
        }
        Action::Load { images, node } => {
            let cluster = Cluster::open(&cli.dir)?;
            let nodes = node.as_ref().map_or_else(|| cluster.nodes(), |name| Ok(vec![cluster.node(name)?]))?;
            for node in nodes {
                load(&node, images)?;
            }
        }
        Action::Down => match Cluster::down(&cli.dir) {
            Ok(()) => say(format!("the cluster in {} has ended", cli.dir.display())),
            Err(Error::Absent(folder)) => say(format!("there is no cluster in {}", folder.display())),
            Err(error) => return Err(error.into()),
        },
    }
    Ok(0)
}

fn up(cli: &Cli, nodes: u32, no_wait: bool, guests: &Guests) -> anyhow::Result<()> {
    let options = Options { mirror: cli.mirror.as_deref().map(Mirror::at), ..Options::default() };
    let cluster = Cluster::up(&cli.dir, options)?;
    let names: Vec<String> = (1..=nodes).map(|number| format!("node{number}")).collect();
    start(&cluster, &names, !no_wait, guests)?;
    let make = cli.dir.as_os_str() == DIR;
    let program = std::env::args().next().unwrap_or_default();
    let rest = format!(" --dir {}", cli.dir.display());
    println!("\nThe cluster is up. What to type next:\n");
    if make {
        println!("    eval \"$(make -s cluster-env)\"      # kubectl and helm, in this shell, as the administrator");
    } else {
        println!("    eval \"$({program} env{rest})\"");
    }
    println!("    kubectl get nodes");
    if make {
        println!("    make cluster-install                # operator and agents, as built now; again after each edit");
    }
    if nodes > 0 {
        println!("    kubectl run one --image=docker.io/library/busybox:test -- sleep 1000");
    }
    println!("    {program} --help{}", if make { "" } else { "                      # with --dir" });
    println!("    {}", if make { "make cluster-down".to_owned() } else { format!("{program} down{rest}") });
    Ok(())
}

/// Boots nodes one after the other, and then waits for all if it is to.
fn start(cluster: &Cluster, names: &[String], wait: bool, guest: &Guests) -> anyhow::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    cluster.prepare_node(guest.kernel)?;
    let mut nodes = Vec::new();
    for name in names {
        let step = Step::begin(format!("{name}: booting with kernel {}", guest.kernel.name));
        let options = NodeOptions {
            memory: guest.memory,
            newer_runtime: guest.newer_runtime,
            cgroup_driver: guest.cgroup_driver,
            keeps_disk: guest.keeps_disk,
            ..NodeOptions::new(name, guest.kernel)
        };
        nodes.push(cluster.start_node(&options)?);
        step.done();
    }
    for node in nodes.into_iter().filter(|_| wait) {
        let step = Step::begin(format!("{}: waiting until it is Ready", node.name()));
        cluster.await_ready(&node)?;
        step.done();
        load(&node, &guest.images)?;
    }
    Ok(())
}

fn load(node: &Node, images: &[PathBuf]) -> anyhow::Result<()> {
    for image in images {
        let step = Step::begin(format!("{}: loading {}", node.name(), image.display()));
        node.load(image)?;
        step.done();
    }
    Ok(())
}

fn status(cluster: &Cluster) -> anyhow::Result<()> {
    println!("API server   {}", cluster.server());
    println!("kubeconfig   {}", cluster.kubectl().kubeconfig().display());
    println!("audit log    {}", cluster.audit_log().display());
    println!();
    for component in Component::ALL {
        let process = cluster.process(component).map_or("-".to_owned(), |pid| pid.to_string());
        println!("{:<24} {process:>8}  {}", component.name(), cluster.log(component.name()).display());
    }
    for node in cluster.nodes()? {
        let process = node.process().map_or("-".to_owned(), |pid| pid.to_string());
        println!("{:<24} {process:>8}  {}", node.name(), node.kubelet_log().display());
    }
    Ok(())
}

fn environment(cluster: &Cluster) -> anyhow::Result<()> {
    let (kubectl, helm) = (cluster.kubectl(), cluster.helm(HelmVersion::Four)?);
    println!("export KUBECONFIG='{}'", kubectl.kubeconfig().display());
    println!("export KUBECACHEDIR='{}'", cluster.folder().join("kubectl-cache").display());
    for name in ["CACHE", "CONFIG", "DATA"] {
        println!("export HELM_{name}_HOME='{}'", cluster.folder().join("helm").display());
    }
    println!("export PATH='{}':'{}':\"$PATH\"", cluster.programs().display(), helm.folder().display());
    if io::stdout().is_terminal() {
        eprintln!("cluster: for a shell: eval \"$(cluster env)\"");
    }
    Ok(())
}
