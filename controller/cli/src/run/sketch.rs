//! Draws the paths that a plan weighed, as they were lately and are expected to be, against what was asked for.
use super::circuit::refused;
use super::explain::{draw, series};
use super::understood;
use crate::args::circuit::Plan as Asked;
use crate::fabric::Fabric;
use crate::failure::Failure;
use crate::out::Out;
use proto_model::circuit::Path;
use proto_model::insight::{Role, Series};
use proto_model::intent::Bounds;
use proto_model::plan::Plan;
use proto_model::topology::Quantity;
use proto_model::{Kind, Refusal};
use proto_wire::v1;
use proto_wire::v1::series_request::{Paths, Subject};

/// Paths of one drawing: as many as can be asked for at once.
const PANELS: usize = proto_wire::convert::limits::LINES;

pub(super) async fn plan(
    fabric: &mut Fabric,
    asked: &Asked,
    answer: &v1::Plan,
    out: Out,
) -> Result<(), Failure> {
    let plan: Plan = understood(answer.clone())?;
    let mut ways = ways(&plan);
    if ways.is_empty() {
        // It says so where the plan is refused.
        refused(answer)?;
        return Err(nothing());
    }
    let more = ways.len().saturating_sub(PANELS);
    ways.truncate(PANELS);
    let (quantity, sheet) = (asked.sketch.quantity(), &asked.sketch.sheet);
    let paths = ways.iter().map(|(_, path)| v1::Path::from((*path).clone())).collect();
    let drawn = series(fabric, Subject::Paths(Paths { paths }), quantity, sheet).await.map_err(of_older)?;
    let drawn = as_planned(understood(drawn)?, &ways, &plan.bounds);
    draw(&drawn.into(), &title(asked), sheet, out)?;
    if more > 0 {
        out.note(&format!("{more} more candidates are not drawn; without --chart the plan lists them"));
    }
    Ok(())
}

/// A controller that knows no paths as a subject sees none.
fn of_older(failure: Failure) -> Failure {
    match failure {
        Failure::Refused { refusal, .. } if refusal.kind == Kind::Invalid && refusal.field == "subject" => {
            let what = "the controller is of an older build, which cannot draw the paths of a plan";
            let hint = "without --chart and --svg the plan says what is expected of them";
            Failure::Refused { refusal: Refusal::precondition(what).hint(hint), option: None }
        }
        other => other,
    }
}

fn nothing() -> Failure {
    Failure::Usage {
        what: "both ends are on one host: there is no path to draw".into(),
        hint: "without --chart and --svg the plan says what would change there".into(),
    }
}

fn title(asked: &Asked) -> String {
    let name = |end: &Option<proto_model::ResourceId>| end.as_ref().map(ToString::to_string);
    let ends = [name(&asked.wish.source), name(&asked.wish.destination)];
    ends.map(Option::unwrap_or_default).join(" → ")
}

/// The chosen one, the one that would be its backup, then the others as the plan has them: by cost, rejected ones last.
fn ways(plan: &Plan) -> Vec<(Role, &Path)> {
    let chosen = plan.chosen.and_then(|index| plan.candidates.get(index));
    let backup = plan.backup.iter().map(|backup| (Role::Backup, &backup.path));
    let others = plan.candidates.iter().map(|candidate| (Role::Candidate, &candidate.path));
    let mut ways: Vec<(Role, &Path)> = Vec::new();
    for (role, path) in
        chosen.map(|chosen| (Role::Path, &chosen.path)).into_iter().chain(backup).chain(others)
    {
        // Both ends on one host: there is nothing to see.
        if !path.links.is_empty() && ways.iter().all(|(_, known)| *known != path) {
            ways.push((role, path));
        }
    }
    ways
}

/// What the paths are to the plan, the controller was not told.
fn as_planned(mut series: Series, ways: &[(Role, &Path)], bounds: &Bounds) -> Series {
    for line in &mut series.lines {
        if let Some((role, _)) = ways.iter().find(|(_, path)| **path == line.path) {
            line.role = *role;
        }
    }
    let bound = match series.quantity {
        Quantity::Rtt => bounds.max_rtt.map(|rtt| rtt.nanos()),
        Quantity::Loss => bounds.max_loss.map(|loss| loss.ppm().into()),
        Quantity::Load => None,
    };
    Series { bound, ..series }
}
