package kubean_test

import (
	"testing"

	"rehull.dev/testbed/kubean"
)

// item is one statement that a faithful double must satisfy.
type item struct {
	name  string
	check func(*testing.T, *world)
}

// TestConformance runs every item against a real API server and real controllers. The operator's
// polls have their real length; its request rate is unlimited, because many items share it.
func TestConformance(t *testing.T) {
	w := startWorld(t)
	w.startOperator(kubean.Options{APIRate: -1})
	runItems(t, w, []item{
		{"01 own refs: Running within a second", ownRefsRunAtOnce},
	})
}

func runItems(t *testing.T, w *world, items []item) {
	t.Run("items", func(t *testing.T) {
		for _, item := range items {
			t.Run(item.name, func(t *testing.T) {
				t.Parallel()
				item.check(t, w)
			})
		}
	})
}
