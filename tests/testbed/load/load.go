// Package load is clients of a cluster while it changes under them: they work through the proxies of
// workers, as kubelets do, and every request that gets no good answer is written down.
package load

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"

	"rehull.dev/testbed/cluster"
	"rehull.dev/testbed/hosts"
)

const (
	// connections there are through each proxy. Requests share them, by HTTP/2 as all clients of
	// Kubernetes do.
	connections = 4
	// requestLimit is after which a request has failed, whatever becomes of it.
	requestLimit = 5 * time.Second
	configMaps   = "/api/v1/namespaces/default/configmaps"
)

// Options say how much there is to do, and where.
type Options struct {
	Rate    int      // requests per second in total, half of them reads and half writes
	Workers []string // whose proxies carry the requests
	Servers []string // whose API servers are watched and probed
}

// Load runs until it is stopped.
type Load struct {
	cancel context.CancelFunc
	ended  sync.WaitGroup
	lock   sync.Mutex
	lap    Results
	beats  map[string]beat
}

// client speaks to one address over one connection at a time. Nobody repeats a request that failed.
type client struct {
	name string // of the worker whose proxy it goes through, or of the server
	base string
	http *http.Client
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// Start begins to ask and returns when everything that is asked for is there.
func Start(testbed *hosts.Testbed, options Options) (*Load, error) {
	config, err := cluster.API(testbed, cluster.WorkloadConfig(testbed.Dir))
	if err != nil {
		return nil, err
	}
	secrets, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	var proxies, servers []client
	for _, worker := range options.Workers {
		for range connections {
			proxies = append(proxies, newClient(worker, "127.0.0.1", secrets, testbed.DialFrom(worker)))
		}
	}
	for _, name := range options.Servers {
		host, err := testbed.Host(name)
		if err != nil {
			return nil, err
		}
		servers = append(servers, newClient(name, host.Address, secrets, testbed.Dial))
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{cancel: cancel, lap: newResults(), beats: map[string]beat{}}
	objects := options.Rate * int(requestLimit/time.Second)
	if err := prepare(ctx, servers[0], objects); err != nil {
		cancel()
		return nil, err
	}
	l.begin(func() { l.ask(ctx, options.Rate, objects, proxies) })
	l.begin(func() { beatForEver(ctx, servers) })
	for _, server := range servers {
		l.begin(func() { l.probe(ctx, server) })
	}
	for _, watched := range append(servers, proxies...) {
		if _, known := l.beats[watched.name]; !known {
			l.beats[watched.name] = beat{at: time.Now()}
			l.begin(func() { l.watch(ctx, watched) })
		}
	}
	return l, nil
}

func newClient(name, address string, secrets *tls.Config, dial dialer) client {
	transport := utilnet.SetTransportDefaults(&http.Transport{
		TLSClientConfig: secrets.Clone(),
		DialContext:     dial,
		Proxy:           func(*http.Request) (*url.URL, error) { return nil, nil },
	})
	return client{name, "https://" + address + ":6443", &http.Client{Transport: transport}}
}

func (l *Load) begin(work func()) {
	l.ended.Add(1)
	go func() {
		defer l.ended.Done()
		work()
	}()
}

// Stop ends the load and returns what there was since the last lap.
func (l *Load) Stop() Results {
	l.cancel()
	l.ended.Wait()
	return l.Lap()
}

// prepare makes the heartbeat, and so many objects that no request meets another one at its own: an
// API server repeats a write that has lost such a race until the request's time is over.
func prepare(ctx context.Context, server client, objects int) error {
	names := []string{heartbeat}
	for number := range objects {
		names = append(names, object(number))
	}
	var several errgroup.Group
	several.SetLimit(connections)
	for _, name := range names {
		several.Go(func() error {
			err := server.send(ctx, http.MethodPost, configMaps, configMap(name, 0))
			if err != nil {
				return fmt.Errorf("make ConfigMap %s: %w", name, err)
			}
			return nil
		})
	}
	return several.Wait()
}

// object is the name of a ConfigMap that is read and written.
func object(number int) string { return fmt.Sprint("load-", number) }

func configMap(name string, number int) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{"n":"%d"}}`,
		name, number)
}

// ask sends requests at their times, however long others take: each object is read, then written. What
// a busy machine has kept it from sending is made up for, but for what would be a flood.
func (l *Load) ask(ctx context.Context, perSecond, objects int, proxies []client) {
	due := rate.NewLimiter(rate.Limit(perSecond), perSecond/4)
	for number := 0; due.Wait(ctx) == nil; number++ {
		name := object(number / 2 % objects)
		method, body := http.MethodGet, ""
		if number%2 == 1 {
			method, body = http.MethodPut, configMap(name, number)
		}
		proxy := proxies[number/2%len(proxies)]
		l.begin(func() {
			begun := time.Now()
			err := proxy.send(ctx, method, configMaps+"/"+name, body)
			if ctx.Err() == nil {
				l.asked(begun, method, proxy.name, err)
			}
		})
	}
}

// send makes one request; anything but success is an error that says why in as few words as others
// of its kind.
func (c client) send(ctx context.Context, method, path, body string) error {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	answer, err := c.open(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return reason(err)
	}
	if answer.StatusCode/100 == 2 {
		return nil
	}
	err = fmt.Errorf("%d: %s", answer.StatusCode, message(text))
	if answer.Header.Get("Retry-After") != "" {
		return postponed{err}
	}
	return err
}

// postponed is an answer of a server that asks to repeat the request, as client-go does by itself.
type postponed struct{ error }

var (
	failedChecks = regexp.MustCompile(`\[-\]\S+`)
	addresses    = regexp.MustCompile(`[0-9.]+:[0-9]+`)
)

// message is what a server says of a failure: the checks that have failed, or a Status, or words.
func message(text []byte) string {
	if checks := failedChecks.FindAllString(string(text), -1); checks != nil {
		return strings.Join(checks, " ")
	}
	var status struct{ Message string }
	if json.Unmarshal(text, &status) != nil {
		status.Message = strings.TrimSpace(string(text))
	}
	return addresses.ReplaceAllString(status.Message, "address")
}

func (c client) open(ctx context.Context, method, path, body string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, reason(err)
	}
	return answer, nil
}

// reason takes addresses and numbers out of an error, which differ where its kind does not.
func reason(err error) error {
	if about := new(url.Error); errors.As(err, &about) {
		err = about.Err
	}
	if about := new(net.OpError); errors.As(err, &about) {
		return fmt.Errorf("%s: %w", about.Op, about.Err)
	}
	text, _, _ := strings.Cut(err.Error(), ";")
	return errors.New(text)
}
