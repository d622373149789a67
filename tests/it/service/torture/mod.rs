//! The fault matrix: whichever process dies, wherever the program is at that moment, every row is
//! right in the end.
//!
//! Two real programs (one writes, one stands by), each behind proxies of its own; a cluster for either
//! database; applications that write at random and a simulated Salesforce throughout. A cell of the matrix stops
//! the writer at a failpoint, injects a fault there, and waits until a new change gets through. Then the
//! writers pause until nothing is left to do, and every row is compared. `make torture` runs all of it for ten
//! minutes; SCHOOLBELL_SEED repeats a run's faults in their order.

mod fault;
mod process;
mod stage;
mod strike;
mod succession;

use std::time::{Duration, Instant};

use fastrand::Rng;
use schoolbell::failpoint::Failpoint;

use fault::{Fault, Report, keep};
use stage::Stage;

type Cell = (Failpoint, Fault);

fn seed() -> u64 {
    let seed = std::env::var("SCHOOLBELL_SEED").ok().and_then(|seed| seed.parse().ok());
    seed.unwrap_or_else(|| fastrand::u64(..))
}

/// Every failpoint with every fault, in an order of its own, repeatedly.
fn matrix(seed: u64) -> impl Iterator<Item = Cell> {
    let mut random = Rng::with_seed(seed);
    std::iter::repeat_with(move || {
        let mut cells: Vec<Cell> = Failpoint::ALL
            .iter()
            .flat_map(|&place| Fault::ALL.map(|fault| (place, fault)))
            .collect();
        random.shuffle(&mut cells);
        cells
    })
    .flatten()
}

#[tokio::test]
async fn a_few_cells_of_the_fault_matrix_leave_every_row_right() {
    let (seed, began) = (seed(), Instant::now());
    println!("SCHOOLBELL_SEED={seed}");
    let cells = [
        (Failpoint::AfterClaim, Fault::Kill),
        (Failpoint::BeforeCommit, Fault::Pause),
        (Failpoint::AfterCommit, Fault::Exit),
        (Failpoint::WhileParking, Fault::SourceCut),
        (Failpoint::BeforeAcknowledge, Fault::Reload),
        (Failpoint::ResyncPage, Fault::TargetHalfClosed),
        (Failpoint::WhileArming, Fault::SourceRestarts),
        (Failpoint::AfterProject, Fault::TargetStalls),
        (Failpoint::BeforeCommit, Fault::ForeignLocks),
        (Failpoint::AfterCommit, Fault::LongKeys),
        (Failpoint::BeforeAcknowledge, Fault::Settings),
    ];

    let stage = Stage::start(seed).await;
    let server = stage.server().await;
    let mut report = stage.run(cells, began + Duration::from_secs(3_600)).await;

    assert_eq!(report.faults(), cells.len() as u64);
    println!("\n{}\n", report.markdown(seed, began.elapsed().as_secs(), &server));
}

/// Several stages at once: most of the time is spent waiting.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten minutes: make torture"]
async fn the_whole_fault_matrix_leaves_every_row_right() {
    const STAGES: u64 = 6;
    let (seed, began) = (seed(), Instant::now());
    println!("SCHOOLBELL_SEED={seed}");
    let seconds = std::env::var("SCHOOLBELL_TORTURE_SECONDS").ok();
    let seconds: u64 = seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(600);
    let until = began + Duration::from_secs(seconds);

    let mut stages = tokio::task::JoinSet::new();
    for number in 0..STAGES {
        // Together they go through the matrix; none does what another does.
        let cells = matrix(seed).skip(number as usize).step_by(STAGES as usize);
        let stage_seed = seed.wrapping_add(1_000 * number);
        stages.spawn(async move {
            let stage = Stage::start(stage_seed).await;
            let server = stage.server().await;
            (server, stage.run(cells, until).await)
        });
    }
    let (mut report, mut server) = (Report::default(), String::new());
    while let Some(stage) = stages.join_next().await {
        let (ran_on, of_stage) = stage.unwrap();
        report.add(of_stage);
        server = ran_on;
    }

    assert!(report.faults() > 0);
    let report = report.markdown(seed, began.elapsed().as_secs(), &server);
    println!("\n{report}\n");
    if std::env::var_os("SCHOOLBELL_BLESS").is_some() {
        keep(&report);
    }
}
