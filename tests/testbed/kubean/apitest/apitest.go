// Package apitest starts a real etcd, kube-apiserver and kube-controller-manager for a test, on
// free ports of the loopback, and leaves nothing behind, not even when the test is killed.
package apitest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// readyTimeout bounds the start of the API server on a busy machine.
const readyTimeout = 90 * time.Second

// controllers are those that Kubean's behaviour rests on.
const controllers = "job-controller,garbage-collector-controller," +
	"pod-garbage-collector-controller," +
	"node-lifecycle-controller,serviceaccount-controller,namespace-controller," +
	"root-ca-certificate-publisher-controller"

// Plane is a control plane.
type Plane struct {
	// Config is an administrator's, without a rate limit.
	Config *rest.Config
	// Core is a client with it.
	Core kubernetes.Interface
	// Dir is thrown away after the test.
	Dir string

	t   testing.TB
	bin string
}

// Start runs etcd and the API server. The programs are the links in $TESTBED_BIN, or in bin.
func Start(t testing.TB, bin string) *Plane {
	t.Helper()
	if dir := os.Getenv("TESTBED_BIN"); dir != "" {
		bin = dir
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			t.Fatalf("%v\nbuild the Kubernetes programs first (tests/testbed/setup.sh), or set "+
				"TESTBED_BIN to the directory with links called etcd, kube-apiserver, "+
				"kube-controller-manager", err)
		}
	}
	p := &Plane{t: t, bin: bin, Dir: freshDir(t)}
	ports := freePorts(t, 3)
	store := "http://127.0.0.1:" + ports[0]
	peer := "http://127.0.0.1:" + ports[1]
	p.run("etcd", "--data-dir", p.file("etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", store, "--advertise-client-urls", store,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--initial-cluster", "default="+peer)
	key := p.file("sa.key")
	p.write(key, newKey(t))
	p.write(p.file("tokens"), []byte("admin,admin,admin,system:masters\n"))
	p.run("kube-apiserver", "--etcd-servers", store, "--cert-dir", p.file("certs"),
		"--bind-address", "127.0.0.1", "--secure-port", ports[2],
		// Only written into an object that nobody here reads; loopback is refused.
		"--advertise-address", "192.0.2.1",
		"--authorization-mode", "RBAC", "--token-auth-file", p.file("tokens"),
		"--service-account-issuer", "https://testbed", "--service-account-key-file", key,
		"--service-account-signing-key-file", key, "--service-cluster-ip-range", "10.0.0.0/24",
		"--kubelet-preferred-address-types", "InternalIP")
	p.Config = &rest.Config{
		Host: "https://127.0.0.1:" + ports[2], BearerToken: "admin",
		TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1,
	}
	p.Core = kubernetes.NewForConfigOrDie(p.Config)
	p.waitReady()
	return p
}

// StartControllers runs the controller-manager. Do it when the kinds that own things are there:
// the garbage collector learns of new kinds only every 30 s.
func (p *Plane) StartControllers() {
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{
		Server: p.Config.Host, InsecureSkipTLSVerify: true,
	}
	config.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: p.Config.BearerToken}
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	config.CurrentContext = "x"
	if err := clientcmd.WriteToFile(*config, p.file("kubeconfig")); err != nil {
		p.t.Fatal(err)
	}
	p.run("kube-controller-manager", "--kubeconfig", p.file("kubeconfig"),
		"--controllers", controllers, "--leader-elect=false", "--secure-port", "0",
		"--service-account-private-key-file", p.file("sa.key"),
		"--kube-api-qps", "200", "--kube-api-burst", "400")
}

func (p *Plane) waitReady() {
	ctx, cancel := context.WithTimeout(p.t.Context(), readyTimeout)
	defer cancel()
	for {
		err := p.Core.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			p.t.Fatalf("kube-apiserver is not ready after %v: %v", readyTimeout, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// run starts a program that dies with this process and is stopped at the end of the test. If the
// test fails, the last lines of its output are shown.
func (p *Plane) run(name string, args ...string) {
	log, err := os.Create(p.file(name + ".log"))
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(p.bin, name), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		// The death signal follows the thread, so the thread has to stay.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		if p.t.Failed() {
			p.t.Logf("%s said last:\n%s", name, tail(log.Name()))
		}
		log.Close()
	})
}

func tail(path string) string {
	const shown = 15
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-shown):], "\n")
}

func (p *Plane) file(name string) string { return filepath.Join(p.Dir, name) }

func (p *Plane) write(path string, content []byte) {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

const dirPrefix = "rehull-apitest-"

// freshDir makes the directory of this test, and removes those of tests that were killed.
func freshDir(t testing.TB) string {
	t.Helper()
	old, err := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range old {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
		if _, err := os.Stat("/proc/" + pid); os.IsNotExist(err) {
			os.RemoveAll(dir)
		}
	}
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", dirPrefix, os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// freePorts finds ports below those that the kernel gives to outgoing connections, so that none is
// taken between here and the program's start.
func freePorts(t testing.TB, n int) []string {
	t.Helper()
	const first, span = 20000, 12000
	var ports []string
	for tries := 0; len(ports) < n; tries++ {
		if tries > 10*n {
			t.Fatal("no free ports")
		}
		port := strconv.Itoa(first + mathrand.IntN(span))
		if listener, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			defer listener.Close()
			ports = append(ports, port)
		}
	}
	return ports
}

func newKey(t testing.TB) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{
		Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key),
	})
}
