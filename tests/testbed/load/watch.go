package load

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

const (
	heartbeat    = "load-heartbeat"
	beatPeriod   = 500 * time.Millisecond
	beatLimit    = time.Second
	probePeriod  = time.Second
	probeLimit   = time.Second
	reopenPeriod = 100 * time.Millisecond
)

// beat is the last change of the heartbeat that a watch has shown.
type beat struct {
	number int
	at     time.Time
}

// beatForEver writes the heartbeat through whichever server takes it, so that a gap in a watch is the
// watched server's own.
func beatForEver(ctx context.Context, servers []client) {
	ticks := time.NewTicker(beatPeriod)
	defer ticks.Stop()
	for number := 1; ; number++ {
		for _, server := range servers {
			limited, cancel := context.WithTimeout(ctx, beatLimit)
			err := server.send(limited, http.MethodPut, configMaps+"/"+heartbeat,
				configMap(heartbeat, number))
			cancel()
			if err == nil {
				break
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
	}
}

// watch holds a watch of the heartbeat open, and opens it again when it ends.
func (l *Load) watch(ctx context.Context, watched client) {
	for ctx.Err() == nil {
		l.follow(ctx, watched)
		select {
		case <-ctx.Done():
		case <-time.After(reopenPeriod):
		}
	}
}

func (l *Load) follow(ctx context.Context, watched client) {
	answer, err := watched.open(ctx, http.MethodGet,
		configMaps+"?watch=true&fieldSelector=metadata.name%3D"+heartbeat, "")
	if err != nil {
		return
	}
	defer answer.Body.Close()
	for events := json.NewDecoder(answer.Body); ; {
		var event struct {
			Object struct{ Data struct{ N string } }
		}
		if events.Decode(&event) != nil {
			return
		}
		if number, err := strconv.Atoi(event.Object.Data.N); err == nil {
			l.saw(watched.name, number)
		}
	}
}

// probe asks a server each second whether it is ready.
func (l *Load) probe(ctx context.Context, server client) {
	ticks := time.NewTicker(probePeriod)
	defer ticks.Stop()
	for {
		limited, cancel := context.WithTimeout(ctx, probeLimit)
		err := server.send(limited, http.MethodGet, "/readyz", "")
		cancel()
		if ctx.Err() == nil {
			l.probed(server.name, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
	}
}
