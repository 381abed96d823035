//! Turns traffic matrices into the loads of a network's links, on shortest paths by hops.
use super::series::Series;
use std::collections::{BTreeMap, VecDeque};

/// A network as recorded: JSON with `nodes` (name, longitude, latitude) and `links` (ends, capacities; both directions).
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
pub struct Network {
    pub nodes: Vec<(String, f64, f64)>,
    pub links: Vec<(String, String, Vec<f64>)>,
}

/// Loads of all links that carry something, in the unit of the matrices (Mbit/s).
#[derive(Clone, Debug, PartialEq)]
pub struct Loads {
    /// `a>b`: one direction of a link.
    pub links: Vec<String>,
    /// One per step; NaN where nothing was measured.
    pub frames: Vec<Vec<f32>>,
}

/// Next hop of each node to each destination.
type Routes = Vec<Vec<Option<usize>>>;

impl Loads {
    /// Every flow takes the path with the fewest hops; of several, over the neighbour that is first in the file. A frame
    /// in which everything is zero or missing was not measured. Links that carry nothing most of the time are left out.
    ///
    /// # Errors
    /// Names that the network or the matrices do not have, and flows without a path.
    pub fn new(matrices: &Series, network: &Network) -> Result<Self, String> {
        let index: BTreeMap<&str, usize> =
            network.nodes.iter().enumerate().map(|(index, (name, ..))| (name.as_str(), index)).collect();
        let of =
            |name: &str| index.get(name).copied().ok_or_else(|| format!("the network has no node {name}"));
        let places: Vec<usize> = matrices.nodes.iter().map(|name| of(name)).collect::<Result<_, _>>()?;
        let mut links: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for (from, to, _) in &network.links {
            let (from, to) = (of(from)?, of(to)?);
            for ends in [(from, to), (to, from)] {
                let next = links.len();
                links.entry(ends).or_insert(next);
            }
        }
        let routes = routes(network.nodes.len(), &links);
        let ways = ways(&places, &routes, &links, network)?;
        let frames: Vec<Vec<f32>> =
            matrices.frames.iter().map(|flows| carried(flows, &ways, links.len())).collect();
        let mut names = vec![String::new(); links.len()];
        for ((from, to), link) in links {
            names[link] = format!("{}>{}", network.nodes[from].0, network.nodes[to].0);
        }
        Ok(Self { links: names, frames }.without_idle())
    }

    fn without_idle(self) -> Self {
        let busy = |link: &usize| {
            2 * self.frames.iter().filter(|frame| frame[*link] > 0.0).count() > self.frames.len()
        };
        let kept: Vec<usize> = (0..self.links.len()).filter(busy).collect();
        Self {
            links: kept.iter().map(|link| self.links[*link].clone()).collect(),
            frames: self.frames.iter().map(|frame| kept.iter().map(|link| frame[*link]).collect()).collect(),
        }
    }

    /// Without the frames at the beginning in which nothing was measured.
    #[must_use]
    pub fn from_first_measured(mut self) -> Self {
        let first = self.frames.iter().position(|frame| frame.iter().any(|load| !load.is_nan()));
        self.frames.drain(..first.unwrap_or(0));
        self
    }

    /// Highest load of each link.
    pub fn peaks(&self) -> Vec<f32> {
        let peak = |link: usize| self.frames.iter().map(|frame| frame[link]).fold(0.0, f32::max);
        (0..self.links.len()).map(peak).collect()
    }
}

/// By breadth-first search from each destination.
fn routes(nodes: usize, links: &BTreeMap<(usize, usize), usize>) -> Routes {
    let neighbours = |node: usize| links.range((node, 0)..(node + 1, 0)).map(|((_, to), _)| *to);
    let mut routes = vec![vec![None; nodes]; nodes];
    for destination in 0..nodes {
        let mut distance = vec![usize::MAX; nodes];
        distance[destination] = 0;
        let mut queue = VecDeque::from([destination]);
        while let Some(node) = queue.pop_front() {
            for other in neighbours(node).filter(|other| links.contains_key(&(*other, node))) {
                if distance[other] == usize::MAX {
                    distance[other] = distance[node] + 1;
                    queue.push_back(other);
                }
            }
        }
        for (node, route) in routes.iter_mut().enumerate() {
            let nearer =
                |next: &usize| distance[*next] != usize::MAX && distance[*next] + 1 == distance[node];
            route[destination] = neighbours(node).find(nearer);
        }
    }
    routes
}

/// Links of each flow of a matrix.
fn ways(
    places: &[usize],
    routes: &Routes,
    links: &BTreeMap<(usize, usize), usize>,
    network: &Network,
) -> Result<Vec<Vec<usize>>, String> {
    let mut ways = Vec::with_capacity(places.len() * places.len());
    for (from, to) in places.iter().flat_map(|from| places.iter().map(move |to| (*from, *to))) {
        let (mut way, mut at) = (Vec::new(), from);
        while at != to {
            let next = routes[at][to].ok_or_else(|| {
                format!("the network has no path from {} to {}", network.nodes[from].0, network.nodes[to].0)
            })?;
            way.extend(links.get(&(at, next)));
            at = next;
        }
        ways.push(way);
    }
    Ok(ways)
}

fn carried(flows: &[f32], ways: &[Vec<usize>], links: usize) -> Vec<f32> {
    let measured = flows.iter().any(|flow| *flow > 0.0);
    let mut loads = vec![if measured { 0.0 } else { f32::NAN }; links];
    for (flow, way) in flows.iter().zip(ways).filter(|(flow, _)| **flow > 0.0) {
        way.iter().for_each(|link| loads[*link] += flow);
    }
    loads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square() -> Network {
        let node = |name: &str| (name.to_owned(), 0.0, 0.0);
        let link = |a: &str, b: &str| (a.to_owned(), b.to_owned(), vec![10.0]);
        Network {
            nodes: ["a", "b", "c", "d"].map(node).into(),
            links: vec![link("a", "c"), link("a", "b"), link("b", "d"), link("c", "d")],
        }
    }

    #[test]
    fn a_flow_loads_the_links_of_its_path_and_ties_go_to_the_neighbour_first_in_the_file() {
        let series = Series::parse("step,src,a,d\n0,a,0,0\n1,a,9,4\n2,d,2,0\n").expect("matrices");
        let loads = Loads::new(&series, &square()).expect("loads");
        let all = Loads::new(&Series { frames: series.frames[1..2].to_vec(), ..series.clone() }, &square());
        assert_eq!(
            all.expect("loads").links,
            ["a>b", "b>d"],
            "over b, and what a sends to itself stays there"
        );
        assert_eq!(loads.links, Vec::<String>::new(), "each link is idle most of the time");
        let first = Loads { links: vec!["x".into()], frames: vec![vec![f32::NAN], vec![1.0], vec![3.0]] };
        assert_eq!(first.clone().from_first_measured().frames.len(), 2);
        assert_eq!(first.peaks(), [3.0]);
    }

    #[test]
    fn a_step_without_traffic_was_not_measured() {
        let series = Series::parse("step,src,a,b\n0,a,0,0\n1,a,0,4\n2,a,0,5\n").expect("matrices");
        let loads = Loads::new(&series, &square()).expect("loads");
        assert!(loads.frames[0][0].is_nan());
        assert_eq!(loads.frames[2], [5.0]);
    }

    #[test]
    fn what_the_network_does_not_have_is_named() {
        let series = Series::parse("step,src,a,z\n0,a,0,1\n").expect("matrices");
        assert_eq!(Loads::new(&series, &square()), Err("the network has no node z".into()));
        let series = Series::parse("step,src,a,d\n0,a,0,1\n").expect("matrices");
        let apart = Network { links: square().links[..1].to_vec(), ..square() };
        assert_eq!(Loads::new(&series, &apart), Err("the network has no path from a to d".into()));
    }
}
