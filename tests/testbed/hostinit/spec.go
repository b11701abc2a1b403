// Package hostinit is what runs inside a testbed host: it turns fresh namespaces into a machine
// with its own disk, network card and firmware, and is then that machine's process 1.
package hostinit

// Spec is all that a machine is made of. The warden writes it to the first process's stdin.
type Spec struct {
	Name    string // host name, also the Kubernetes node name
	Address string // with prefix length, for example 10.77.0.21/24
	Gateway string
	Disk    string // directory that a reinstall throws away
	Release string // /etc/os-release id: decides what cannot come from the disk (cgroup version)
	BootID  string
	// Firmware survives a reinstall, as on a real machine.
	ProductUUID, Serial string
	Binds               []Bind
}

// Bind shows a file or directory of the machine below in the host.
type Bind struct {
	From, To string
	ReadOnly bool
}
