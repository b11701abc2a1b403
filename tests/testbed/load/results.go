package load

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Failure is a request that got no good answer.
type Failure struct {
	At             time.Time // when it was sent
	Method, Worker string
	Reason         string
	Postponed      bool // the server has asked to repeat it, which client-go does by itself
}

// Gap is the longest time for which a watch showed nothing, though the heartbeat changed.
type Gap struct {
	Longest time.Duration
	Until   time.Time
}

// Misses are probes of /readyz that a server did not answer with 200 in a second.
type Misses struct {
	Probes, Missed int
	First, Last    time.Time
	Reason         string // of the last
}

// Results are what clients noticed in some time.
type Results struct {
	Total  int
	Failed []Failure
	Gaps   map[string]Gap    // by server, and by worker of those through its proxy
	Readyz map[string]Misses // by server
}

func newResults() Results {
	return Results{Gaps: map[string]Gap{}, Readyz: map[string]Misses{}}
}

// Lap returns what there was since the last lap, and begins another one.
func (l *Load) Lap() Results {
	l.lock.Lock()
	defer l.lock.Unlock()
	for name := range l.beats {
		l.gap(name)
	}
	done := l.lap
	l.lap = newResults()
	return done
}

func (l *Load) asked(begun time.Time, method, worker string, err error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.lap.Total++
	if err != nil {
		l.lap.Failed = append(l.lap.Failed,
			Failure{begun, method, worker, err.Error(), errors.As(err, new(postponed))})
	}
}

// saw counts a state of the heartbeat that is news: a watch begins with one that may be old.
func (l *Load) saw(name string, number int) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if number > l.beats[name].number {
		l.gap(name)
		l.beats[name] = beat{number, time.Now()}
	}
}

// gap is called with the lock held.
func (l *Load) gap(name string) {
	if gap := time.Since(l.beats[name].at); gap > l.lap.Gaps[name].Longest {
		l.lap.Gaps[name] = Gap{gap, time.Now()}
	}
}

func (l *Load) probed(server string, err error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	m := l.lap.Readyz[server]
	m.Probes++
	if err != nil {
		if m.Missed == 0 {
			m.First = time.Now()
		}
		m.Missed, m.Last, m.Reason = m.Missed+1, time.Now(), err.Error()
	}
	l.lap.Readyz[server] = m
}

// Postponed is how many of the failed requests a client of Kubernetes repeats by itself.
func (r Results) Postponed() int {
	count := 0
	for _, failure := range r.Failed {
		if failure.Postponed {
			count++
		}
	}
	return count
}

// String is a report for people: failures by reason, with the times of the first and the last.
func (r Results) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%d requests, %d failed; %d of these are to be repeated\n", r.Total,
		len(r.Failed), r.Postponed())
	kinds := map[string][]Failure{}
	for _, failure := range r.Failed {
		kind := failure.Method + " " + failure.Reason
		kinds[kind] = append(kinds[kind], failure)
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		all := kinds[kind]
		byTime := func(a, b Failure) int { return a.At.Compare(b.At) }
		first, last := slices.MinFunc(all, byTime), slices.MaxFunc(all, byTime)
		fmt.Fprintf(&text, "  %5d %s (%s to %s)\n", len(all), kind, clock(first.At), clock(last.At))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Gaps)) {
		gap := r.Gaps[name]
		fmt.Fprintf(&text, "  watch of %s: longest gap %.1f s until %s\n", name,
			gap.Longest.Seconds(), clock(gap.Until))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Readyz)) {
		m := r.Readyz[name]
		fmt.Fprintf(&text, "  readyz of %s: %d of %d missed", name, m.Missed, m.Probes)
		if m.Missed > 0 {
			fmt.Fprintf(&text, " (%s to %s, last: %.80s)", clock(m.First), clock(m.Last), m.Reason)
		}
		text.WriteString("\n")
	}
	return text.String()
}

func clock(at time.Time) string { return at.Format("15:04:05.0") }
