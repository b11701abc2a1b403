// Package play stands in for programs whose work the testbed does not need, but whose process and
// name it does.
package play

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Main runs until it is told to end.
func Main(name string) {
	fmt.Println(name, "runs")
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
}
