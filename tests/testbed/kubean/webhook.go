package kubean

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	admission "k8s.io/api/admission/v1"
	registration "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	webhookConfig = "kubean-admission-webhook"
	webhookPath   = "/webhook"
	// webhookTimeout bounds one question of the API server, which asks for at most 10 s.
	webhookTimeout = 10 * time.Second
)

// RunWebhook serves admission at address and fills the webhook configuration with itself. It
// refuses a new operation while another of the same cluster has not ended; because it lists and
// then answers, two that come at once may both be admitted.
func RunWebhook(ctx context.Context, cfg *rest.Config, address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return err
	}
	certificate, trust, err := SelfSigned(host)
	if err != nil {
		return err
	}
	client, err := NewClient(cfg)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(webhookPath, admit(client))
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: webhookTimeout,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}},
	}
	context.AfterFunc(ctx, func() { server.Close() })
	failed := make(chan error, 1)
	go func() { failed <- server.ServeTLS(listener, "", "") }()
	url := "https://" + net.JoinHostPort(host, port) + webhookPath
	if err := fillWebhook(ctx, cfg, url, trust); err != nil {
		server.Close()
		return err
	}
	if err := <-failed; ctx.Err() == nil {
		return err
	}
	return nil
}

func admit(client *Client) http.HandlerFunc {
	return func(w http.ResponseWriter, request *http.Request) {
		review := &admission.AdmissionReview{}
		op := &Operation{}
		err := json.NewDecoder(request.Body).Decode(review)
		if err == nil && review.Request == nil {
			err = fmt.Errorf("no request")
		}
		if err == nil {
			err = json.Unmarshal(review.Request.Object.Raw, op)
		}
		var others []Operation
		if err == nil {
			others, err = client.ListOperations(request.Context(), "")
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = &admission.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		if other := unfinished(op, others); other != "" {
			review.Response.Allowed = false
			review.Response.Result = &metav1.Status{
				Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
				Message: fmt.Sprintf("Not Accept %s , because clusterOperation %s has not "+
					"completed which belongs to Cluster %s", op.Name, other, op.Spec.Cluster),
			}
		}
		review.Request = nil
		if err := json.NewEncoder(w).Encode(review); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
}

// unfinished names another operation of the cluster that has not ended; only spec.cluster and the
// status count, labels do not.
func unfinished(op *Operation, others []Operation) string {
	for _, other := range others {
		open := other.Status.Status == "" || other.Status.Status == Running
		if open && other.Name != op.Name && other.Spec.Cluster == op.Spec.Cluster {
			return other.Name
		}
	}
	return ""
}

// fillWebhook points the configuration at us. FailurePolicy Ignore: an outage admits everything.
func fillWebhook(ctx context.Context, cfg *rest.Config, url string, trust []byte) error {
	core, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	client := core.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	object, err := client.Get(ctx, webhookConfig, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	missing := err != nil
	ignore, none := registration.Ignore, registration.SideEffectClassNone
	seconds := int32(webhookTimeout / time.Second)
	object.Name = webhookConfig
	object.Webhooks = []registration.ValidatingWebhook{{
		Name:         "kubean.io.webhook",
		ClientConfig: registration.WebhookClientConfig{URL: &url, CABundle: trust},
		Rules: []registration.RuleWithOperations{{
			Operations: []registration.OperationType{registration.Create},
			Rule: registration.Rule{
				APIGroups: []string{"kubean.io"}, APIVersions: []string{"v1alpha1"},
				Resources: []string{"clusteroperations"},
			},
		}},
		FailurePolicy: &ignore, SideEffects: &none, TimeoutSeconds: &seconds,
		AdmissionReviewVersions: []string{"v1"},
	}}
	if missing {
		_, err = client.Create(ctx, object, metav1.CreateOptions{})
	} else {
		_, err = client.Update(ctx, object, metav1.UpdateOptions{})
	}
	return err
}
