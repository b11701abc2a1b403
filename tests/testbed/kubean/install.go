package kubean

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

//go:embed crds.yaml
var crds []byte

//go:embed chart.yaml
var chart []byte

//go:embed chart-o.yaml
var chartO []byte

// installTimeout bounds the wait until the API serves Kubean's kinds.
const installTimeout = 30 * time.Second

// Install creates what Kubean's chart would, leaving alone what exists, and returns when the API
// serves Kubean's kinds.
func Install(
	ctx context.Context, cfg *rest.Config, namespace string, version Version,
) error {
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return err
	}
	finder, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return err
	}
	groups, err := restmapper.GetAPIGroupResources(finder)
	if err != nil {
		return err
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	manifests := [][]byte{crds, chart}
	if version == O {
		manifests = append(manifests, chartO)
	}
	for _, manifest := range manifests {
		// The manifests are written for the usual namespace.
		manifest = bytes.ReplaceAll(manifest, []byte("kubean-system"), []byte(namespace))
		objects, err := parse(manifest)
		if err != nil {
			return err
		}
		for _, object := range objects {
			kind := object.GroupVersionKind()
			mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
			if err != nil {
				return err
			}
			_, err = client.Resource(mapping.Resource).Namespace(object.GetNamespace()).
				Create(ctx, object, metav1.CreateOptions{})
			if err != nil && !apierrors.IsAlreadyExists(err) {
				return fmt.Errorf("kubean: installing %s %s: %w", kind.Kind, object.GetName(), err)
			}
		}
	}
	return waitForKinds(ctx, cfg)
}

func parse(manifest []byte) ([]*unstructured.Unstructured, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifest), len(manifest))
	var objects []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		switch err := decoder.Decode(&object.Object); {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, err
		case len(object.Object) > 0:
			objects = append(objects, object)
		}
	}
}

func waitForKinds(ctx context.Context, cfg *rest.Config) error {
	client, err := NewClient(cfg)
	if err != nil {
		return err
	}
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, installTimeout, true,
		func(ctx context.Context) (bool, error) {
			for _, kind := range []string{"clusters", "clusteroperations"} {
				if client.Get().Resource(kind).Do(ctx).Error() != nil {
					return false, nil
				}
			}
			return true, nil
		})
}
