//! A placement of the requests of one class, and changes to it as long as they admit more.
use super::MOST_PATHS;
use super::prices::Prices;
use super::rooms::{Rooms, Way};
use super::work::Work;
use proto_model::Bandwidth;
use proto_model::circuit::Path;

/// Rounds over all that is not placed.
const ROUNDS: usize = 40;
/// Requests that give way for one, at most.
const MOST_OUT: usize = 12;
/// Requests for which room is sought after that, at most.
const MOST_TRIED: usize = 100;
/// Changes that need not be better at once, for each request at most.
const SHAKES: usize = 100;
/// Looks that a row of a path is worth, or a request that is asked whether it is in the way.
const LOOKS: usize = 8;

/// xorshift64 (Marsaglia 2003): the same placement for the same requests.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % bound.max(1)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Board {
    rooms: Rooms,
    requests: Vec<Request>,
}

#[derive(Clone, Debug)]
struct Request {
    need: u64,
    ways: Vec<Way>,
    /// Of `ways`.
    chosen: Option<usize>,
}

impl Board {
    pub(super) fn new(rooms: Rooms) -> Self {
        Self { rooms, requests: Vec::new() }
    }

    pub(super) fn add(&mut self, need: u64, ways: Vec<Way>) {
        self.requests.push(Request { need, ways, chosen: None });
    }

    /// A further path for a request that has not enough of them. False: it is not needed.
    pub(super) fn add_way(&mut self, at: usize, way: Way) -> bool {
        let request = &mut self.requests[at];
        let fits = self.rooms.fits(&way, request.need);
        let new = fits && request.ways.len() < MOST_PATHS && !request.ways.contains(&way);
        if new {
            request.ways.push(way);
        }
        new
    }

    pub(super) fn ways(&self, at: usize) -> &[Way] {
        &self.requests[at].ways
    }

    pub(super) fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    pub(super) fn into_rooms(self) -> Rooms {
        self.rooms
    }

    pub(super) fn need(&self, at: usize) -> u64 {
        self.requests[at].need
    }

    pub(super) fn chosen(&self, at: usize) -> Option<&Way> {
        let request = &self.requests[at];
        request.chosen.map(|chosen| &request.ways[chosen])
    }

    /// Bits per second.
    pub(super) fn placed(&self) -> u64 {
        let placed = self.requests.iter().filter(|request| request.chosen.is_some());
        placed.fold(0, |sum, request| sum.saturating_add(request.need))
    }

    /// Of a request that was not placed, the path that comes closest, with what it has left.
    pub(super) fn nearest(&self, at: usize) -> Option<(&Path, Bandwidth)> {
        let best = self.requests[at].ways.iter().max_by_key(|way| self.rooms.least(way))?;
        Some((&best.path, Bandwidth::from_bits_per_second(self.rooms.least(best))))
    }

    /// Greedily in several orders; the best one is kept, unless what is placed already is better.
    pub(super) fn improve(&mut self, prices: &Prices, work: &mut Work) {
        let all = 0..self.requests.len();
        let cheapest = |at: usize| {
            let Request { need, ways, .. } = &self.requests[at];
            ways.iter().map(|way| prices.of(way, *need)).fold(f64::INFINITY, f64::min)
        };
        let by_price: Vec<f64> = all.clone().map(cheapest).collect();
        let mut orders = vec![all.clone().collect::<Vec<_>>(), all.clone().collect(), all.collect()];
        orders[0].sort_by(|a, b| by_price[*a].total_cmp(&by_price[*b]));
        orders[1].sort_by_key(|at| std::cmp::Reverse(self.requests[*at].need));
        // What the relaxation admits whole comes first, the large ones before the small ones.
        orders[2].sort_by_key(|at| (by_price[*at] >= 1.0, std::cmp::Reverse(self.requests[*at].need)));
        let mut best = (self.placed(), self.choices());
        for order in orders {
            self.restore(&vec![None; order.len()]);
            for at in order {
                self.settle(at, prices, work);
            }
            self.climb(prices, work);
            if self.placed() > best.0 {
                best = (self.placed(), self.choices());
            }
        }
        self.restore(&best.1);
    }

    /// Forces requests in though less is placed then, and goes on from there unless that stays less than before (iterated local
    /// search; Lourenço, Martin, Stützle 2003). Keeps the first of what was best. Ends at the bound, or with the work.
    pub(super) fn shake(&mut self, prices: &Prices, work: &mut Work) {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let mut best = (self.placed(), self.choices());
        let mut before = best.0;
        for _ in 0..self.requests.len() * SHAKES {
            let open = self.open();
            if open.is_empty() || before as f64 >= prices.bound() || work.is_spent() {
                break;
            }
            let kept = self.choices();
            self.shake_once(open[numbers.below(open.len())], &mut numbers, prices, work);
            let now = self.placed();
            if now < before {
                self.restore(&kept);
                continue;
            }
            before = now;
            if now > best.0 {
                best = (now, self.choices());
            }
        }
        self.restore(&best.1);
    }

    fn shake_once(&mut self, at: usize, numbers: &mut Numbers, prices: &Prices, work: &mut Work) {
        let way = numbers.below(self.requests[at].ways.len());
        if self.force(at, way, work) {
            let open = self.open().into_iter().take(MOST_TRIED);
            open.for_each(|other| {
                self.settle(other, prices, work);
            });
            self.round(prices, work);
        }
    }

    fn choices(&self) -> Vec<Option<usize>> {
        self.requests.iter().map(|request| request.chosen).collect()
    }

    fn restore(&mut self, choices: &[Option<usize>]) {
        let changed = |board: &Self, at: &usize| board.requests[*at].chosen != choices[*at];
        let changed: Vec<usize> = (0..choices.len()).filter(|at| changed(self, at)).collect();
        for at in &changed {
            self.lift(*at);
        }
        for at in changed {
            choices[at].into_iter().for_each(|way| self.put(at, way));
        }
    }

    /// Whoever is in the way goes out. False: too many are, and some of them may be out.
    fn force(&mut self, at: usize, way: usize, work: &mut Work) -> bool {
        let mut out = 0;
        while let Some(row) = self.short(at, way) {
            work.spend(self.requests.len() * LOOKS);
            let Some(other) = self.who_gives_way(row, at, way).filter(|_| out < MOST_OUT) else {
                return false;
            };
            self.lift(other);
            out += 1;
        }
        self.put(at, way);
        true
    }

    /// On the path that takes least of what is scarce, if it fits on one.
    fn settle(&mut self, at: usize, prices: &Prices, work: &mut Work) -> bool {
        let Request { need, ways, .. } = &self.requests[at];
        work.spend(ways.iter().map(|way| way.rows.len() * LOOKS).sum());
        let fit = ways.iter().enumerate().filter(|(_, way)| self.rooms.fits(way, *need));
        let priced = fit.map(|(at, way)| (prices.of(way, *need), at));
        let best = priced.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, at)| at);
        if let Some(way) = best {
            self.put(at, way);
        }
        best.is_some()
    }

    /// False: it does not fit.
    pub(super) fn put_if_it_fits(&mut self, at: usize, way: usize) -> bool {
        let Request { need, ways, chosen } = &self.requests[at];
        let fits = chosen.is_none() && self.rooms.fits(&ways[way], *need);
        if fits {
            self.put(at, way);
        }
        fits
    }

    fn put(&mut self, at: usize, way: usize) {
        let request = &mut self.requests[at];
        request.chosen = Some(way);
        self.rooms.take(&request.ways[way], request.need);
    }

    fn lift(&mut self, at: usize) -> Option<usize> {
        let request = &mut self.requests[at];
        let way = request.chosen.take()?;
        self.rooms.give_back(&request.ways[way], request.need);
        Some(way)
    }

    /// Each request that is not placed tries to push others aside: they go elsewhere, or are worth less than it is.
    pub(super) fn climb(&mut self, prices: &Prices, work: &mut Work) {
        for _ in 0..ROUNDS {
            if work.is_spent() || !self.round(prices, work) {
                return;
            }
        }
    }

    /// True: more is placed than before.
    fn round(&mut self, prices: &Prices, work: &mut Work) -> bool {
        let mut better = false;
        for at in self.open() {
            if self.requests[at].chosen.is_some() {
                continue;
            }
            let ways = 0..self.requests[at].ways.len();
            better |= self.settle(at, prices, work)
                || ways.into_iter().any(|way| !work.is_spent() && self.push_in(at, way, prices, work));
        }
        better
    }

    /// Those that are not placed, the largest first.
    pub(super) fn open(&self) -> Vec<usize> {
        let all = 0..self.requests.len();
        let mut open: Vec<usize> = all.filter(|at| self.requests[*at].chosen.is_none()).collect();
        open.sort_by_key(|at| std::cmp::Reverse(self.requests[*at].need));
        open
    }

    /// True: more is placed than before; else nothing has changed.
    fn push_in(&mut self, at: usize, way: usize, prices: &Prices, work: &mut Work) -> bool {
        let before = self.placed();
        let mut out: Vec<(usize, usize)> = Vec::new();
        while let Some(row) = self.short(at, way) {
            work.spend(self.requests.len() * LOOKS);
            let Some(other) = self.who_gives_way(row, at, way).filter(|_| out.len() < MOST_OUT) else {
                return self.undo(&out);
            };
            out.extend(self.lift(other).map(|was| (other, was)));
        }
        self.put(at, way);
        // Those that gave way, and others for which there is room now.
        let open = self.open().into_iter().take(MOST_TRIED);
        let settled: Vec<usize> = open.filter(|other| self.settle(*other, prices, work)).collect();
        if self.placed() > before {
            return true;
        }
        for other in settled.into_iter().chain([at]) {
            self.lift(other);
        }
        self.undo(&out)
    }

    fn undo(&mut self, out: &[(usize, usize)]) -> bool {
        for (other, was) in out {
            self.put(*other, *was);
        }
        false
    }

    /// A row in which the request lacks room.
    fn short(&self, at: usize, way: usize) -> Option<u32> {
        let Request { need, ways, .. } = &self.requests[at];
        let short = |(row, times): &&(u32, u32)| self.rooms.free(*row) / u64::from(*times) < *need;
        ways[way].rows.iter().find(short).map(|(row, _)| *row)
    }

    /// Of the requests that take bandwidth there, the smallest that makes enough room; else the largest.
    fn who_gives_way(&self, row: u32, at: usize, way: usize) -> Option<usize> {
        let Request { need, ways, .. } = &self.requests[at];
        let times = ways[way].rows.iter().find(|(known, _)| *known == row).map_or(1, |(_, times)| *times);
        let lacks = need.saturating_mul(u64::from(times)).saturating_sub(self.rooms.free(row));
        let takes = |request: &Request| {
            let way = &request.ways[request.chosen?];
            let (_, times) = way.rows.iter().find(|(known, _)| *known == row)?;
            Some(request.need.saturating_mul(u64::from(*times)))
        };
        let takers = self.requests.iter().enumerate();
        let takers = takers.filter_map(|(other, request)| Some((takes(request)?, other)));
        takers
            .filter(|(takes, _)| *takes > 0)
            .min_by_key(|(takes, _)| match *takes >= lacks {
                true => (false, *takes),
                false => (true, u64::MAX - takes),
            })
            .map(|(_, other)| other)
    }
}
