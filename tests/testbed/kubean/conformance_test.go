package kubean_test

import (
	"slices"
	"testing"
	"time"

	"rehull.dev/testbed/kubean"
)

// item is one statement that a faithful double must satisfy.
type item struct {
	name  string
	check func(*testing.T, *world)
}

// items are statements about single operations. They share an operator without rate limit, so
// that the bounds are those of an idle one.
var items = []item{
	{"01 own refs: Running at once with jobRef, startTime, action", ownRefsRunAtOnce},
	{"02 an accepted spec reads back filled in", acceptedSpecIsFilled},
	{"03 no status, then digest, then Running", statusComesInSteps},
	{"04 label clusterName comes with entrypointSHRef", labelComesWithEntrypoint},
	{"05 without refs: copies, one write each", missingRefsAreCopied},
	{"06 own and hook maps get the operation as owner", ownMapsGetTheOwner},
	{"07 a shared hook map dies with the last", sharedHookDiesWithTheLast},
	{"08 the Cluster's key is copied, mounted 0400 and used", clusterKeyIsCopiedAndUsed},
	{"09 the actor is named when the pod runs", actorComesWithThePod},
	{"10 Job Complete: Succeeded, endTime, hasCompleted", completeBecomesSucceeded},
	{"11 Job Failed: Failed, endTime not before", failedJobBecomesFailed},
	{"12 Job deleted: Failed with endTime", deletedJobBecomesFailed},
	{"13 Job suspended: Failed", suspendedJobBecomesFailed},
	{"14 a terminal operation is never changed", terminalIsFinal},
	{"15 own map missing: Running, the pod waits", ownMapMissingMeansRunning},
	{"16 the Cluster's map missing: Failed, nothing else", clusterMapMissingMeansFailed},
	{"17 unknown action, hook or type: Failed", unknownWordsMeanFailed},
	{"18 bad image: Failed, nothing else", badImageMeansFailed},
	{"19 no Cluster: no status until it exists", noClusterMeansNoStatus},
	{"20 a name of 53 characters is stuck", longNamesAreStuck},
	{"21 a Job that the API refuses is stuck", refusedJobsAreStuck},
	{"22 refs in another namespace are stuck", otherNamespaceIsStuck},
	{"23 a Job of the name is adopted", foreignJobIsAdopted},
	{"24 an actor from the start: suspended, Failed", presetActorSuspends},
	{"25 edits while running", editsWhileRunning},
	{"26 invalid image while running: Failed, the Job goes on", badImageWhileRunning},
	{"27 spec.cluster edited: Running for ever", clusterEditIsStuck},
	{"28 background deletion leaves the pod", backgroundDeletionLeavesThePod},
	{"29 foreground deletion waits for the pod", foregroundDeletionWaitsForThePod},
	{"30 excess operations are deleted", excessIsDeleted},
	{"31 too many running: conditions are stale", overfullMeansStale},
	{"32 an early Failed is in no condition and never deleted", unlabelledIsInvisible},
	{"33 conditions: score, then newest; status may be empty", conditionsAreOrdered},
	{"36 without webhook any number runs", withoutWebhookAnyNumberRuns},
	{"39 names of pods are cut", podNamesAreCut},
	{"40 the Cluster deleted: everything goes", clusterDeletionTakesAll},
	{"41 a foreign status is believed", foreignStatusIsBelieved},
}

// TestConformance checks the statements about single operations. Only the cluster cycle is
// shorter than the real 15 s; all other polls have their real length.
func TestConformance(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.startOperator(kubean.Options{APIRate: -1, CycleEvery: 5 * time.Second})
	t.Run("items", func(t *testing.T) {
		for _, item := range slices.Concat(items, beyond) {
			t.Run(item.name, func(t *testing.T) {
				t.Parallel()
				item.check(t, w)
			})
		}
	})
}

// TestConformanceUnderLoad checks what is about the whole operator, with its real rates and polls
// and the webhook.
func TestConformanceUnderLoad(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	stop := w.startOperator(kubean.Options{})
	t.Run("37 twenty at once are slow", func(t *testing.T) { manyAreSlow(t, w) })
	w.startWebhook()
	t.Run("34 the webhook refuses a second operation", func(t *testing.T) {
		webhookRefuses(t, w)
	})
	t.Run("35 the webhook races with itself", func(t *testing.T) { webhookRaces(t, w) })
	t.Run("38 a restarted operator waits for its lease", func(t *testing.T) {
		stop = restartedOperatorWaits(t, w, stop)
	})
	t.Run("no labelled account: stuck until there is one", func(t *testing.T) {
		withoutAccountStuck(t, w)
	})
	t.Run("a pod that cannot be scheduled: Running, no actor", func(t *testing.T) {
		cordonedNodeTakesNone(t, w)
	})
	stop()
	t.Run("v0.12.2", func(t *testing.T) { oldOperatorDiffers(t, w) })
}
