package runner

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// followPause is the pause between two looks for new lines of a followed log.
const followPause = 200 * time.Millisecond

// stamp is the time format of the lines in the file and of ?timestamps=true.
const stamp = "2006-01-02T15:04:05.000000000Z07:00"

// logFile takes the output of a container, one stamped line each, as a container runtime keeps it.
type logFile struct {
	mu   sync.Mutex
	file *os.File
}

func newLogFile(path string) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	file, err := os.Create(path)
	return &logFile{file: file}, err
}

// stream is one of the two outputs; a last line without newline is written by close.
type stream struct {
	log  *logFile
	name string
	rest []byte
}

// Write keeps the incomplete last line for later.
func (s *stream) Write(p []byte) (int, error) {
	s.rest = append(s.rest, p...)
	for {
		line, rest, found := bytes.Cut(s.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		if err := s.line(line); err != nil {
			return 0, err
		}
		s.rest = rest
	}
}

func (s *stream) line(line []byte) error {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	now := time.Now().UTC().Format(stamp)
	_, err := fmt.Fprintf(s.log.file, "%s %s F %s\n", now, s.name, line)
	return err
}

func (s *stream) close() {
	if len(s.rest) > 0 {
		s.line(s.rest)
	}
}

// serveLog answers the API server's question for a pod's log. Who asks is not checked: the address
// is only reachable from inside the testbed.
func (r *Runner) serveLog(w http.ResponseWriter, request *http.Request) {
	p := r.findPod(request.PathValue("namespace"), request.PathValue("pod"))
	if p == nil {
		http.Error(w, "pod not found", http.StatusNotFound)
		return
	}
	file, err := os.Open(p.logPath)
	if err != nil {
		message := fmt.Sprintf("container %q in pod %q is waiting to start: ContainerCreating",
			request.PathValue("container"), p.name)
		http.Error(w, message, http.StatusBadRequest)
		return
	}
	defer file.Close()
	query := request.URL.Query()
	reply := &logReply{out: w, timestamps: query.Get("timestamps") == "true"}
	if reply.since, err = since(query.Get("sinceTime"), query.Get("sinceSeconds")); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	reply.left = -1
	if limit, err := strconv.ParseInt(query.Get("limitBytes"), 10, 64); err == nil {
		reply.left = limit
	}
	if n, err := strconv.Atoi(query.Get("tailLines")); err == nil {
		if err := seekTail(file, n); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	reader := bufio.NewReader(file)
	for follow := query.Get("follow") == "true"; ; {
		ended := p.hasEnded()
		if !reply.copy(reader) || !follow || ended {
			return
		}
		if flusher, ok := w.(http.Flusher); ok {
			flusher.Flush()
		}
		select {
		case <-request.Context().Done():
			return
		case <-time.After(followPause):
		}
	}
}

func since(at, seconds string) (time.Time, error) {
	if at != "" {
		return time.Parse(time.RFC3339, at)
	}
	if n, err := strconv.Atoi(seconds); err == nil {
		return time.Now().Add(-time.Duration(n) * time.Second), nil
	}
	return time.Time{}, nil
}

// seekTail leaves n lines before the end of the file.
func seekTail(file *os.File, n int) error {
	content, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	start := len(content)
	for ; n > 0 && start > 0; n-- {
		start = bytes.LastIndexByte(content[:start-1], '\n') + 1
	}
	_, err = file.Seek(int64(start), io.SeekStart)
	return err
}

// logReply writes lines in the form that was asked for.
type logReply struct {
	out        io.Writer
	timestamps bool
	since      time.Time
	left       int64 // bytes that may still be written, negative without limit
	partial    string
}

// copy writes all complete lines that are there; false ends the reply.
func (l *logReply) copy(reader *bufio.Reader) bool {
	for {
		text, err := reader.ReadString('\n')
		l.partial += text
		if err != nil {
			return err == io.EOF
		}
		line := l.partial
		l.partial = ""
		parts := strings.SplitN(line, " ", 4) // time, stream, F, text
		if len(parts) < 4 || parts[0] < l.since.UTC().Format(stamp) {
			continue
		}
		shown := parts[3]
		if l.timestamps {
			shown = parts[0] + " " + shown
		}
		if l.left >= 0 && int64(len(shown)) > l.left {
			shown = shown[:l.left]
		}
		if l.left >= 0 {
			l.left -= int64(len(shown))
		}
		if _, err := io.WriteString(l.out, shown); err != nil || l.left == 0 {
			return false
		}
	}
}
