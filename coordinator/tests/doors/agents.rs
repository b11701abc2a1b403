//! Agents at the doors: who gets in, with what, and who does not.

use std::time::Duration;

use rehull::{
    agents::Whom,
    authority::{AGENT_LIFE, Authority},
};
use rehull_proto::v1::{
    Beat, EnrolRequest, FromAgent, Hello, ListAgentsRequest, RenewRequest, StatusRequest, ToAgent,
    TokenRequest, agent_link_client::AgentLinkClient, enrolment_client::EnrolmentClient,
    from_agent::Message, operator_client::OperatorClient,
};
use rehull_shared::ids::Generation;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::house::{certificate_request, coordinator};

fn whom() -> Whom {
    ("prod".parse().unwrap(), "worker1".parse().unwrap())
}

type Open = (mpsc::Sender<FromAgent>, Result<Streaming<ToAgent>, Status>);

async fn open(agent: &mut AgentLinkClient<Channel>, hello: Option<Hello>) -> Open {
    let (sender, messages) = mpsc::channel(8);
    if let Some(hello) = hello {
        sender.send(FromAgent { message: Some(Message::Hello(hello)) }).await.unwrap();
    }
    let stream = agent.open(ReceiverStream::new(messages)).await;
    (sender, stream.map(|answer| answer.into_inner()))
}

fn hello() -> Option<Hello> {
    Some(Hello { protocol: 1, agent_version: "test".to_owned(), ..Hello::default() })
}

/// Waits until something is so; fails after 10 s.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come about within 10 s");
}

/// Why the coordinator has ended a stream, which it must within 10 s.
async fn end_of(stream: &mut Streaming<ToAgent>) -> Status {
    let end = tokio::time::timeout(Duration::from_secs(10), stream.message()).await;
    end.expect("the stream was not ended").expect_err("an order came instead of an end")
}

#[tokio::test]
async fn a_host_with_a_token_enrols_links_and_renews() {
    let coordinator = coordinator().await;
    let enrolled = coordinator.enrol(&coordinator.token().await).await.unwrap();
    assert_eq!(enrolled.0.generation, 1);
    let mut agent = coordinator.agent(&enrolled).await;
    let (messages, stream) = open(&mut agent, hello()).await;
    let _stream = stream.unwrap();
    let beat = Beat { kubelet_running: true, ..Beat::default() };
    messages.send(FromAgent { message: Some(Message::Beat(beat)) }).await.unwrap();
    let agents = coordinator.agents.clone();
    until("its beat", || agents.connected().get(&whom()).is_some_and(|link| link.beat.is_some()))
        .await;
    let (certificate_request, _) = certificate_request();
    let renewed = agent.renew(RenewRequest { certificate_request }).await.unwrap().into_inner();
    assert_eq!(renewed.generation, 1);
    let mut operator = coordinator.operator().await;
    let list = operator.list_agents(ListAgentsRequest::default()).await.unwrap().into_inner();
    assert!(list.agents[0].connected && list.agents[0].kubelet_running, "{list:?}");
    drop(messages);
    until("its end", || agents.connected().is_empty()).await;
}

#[tokio::test]
async fn a_token_is_good_for_one_host_and_only_once() {
    let coordinator = coordinator().await;
    let token = coordinator.token().await;
    let wrong = coordinator.enrol("0123").await.err().unwrap();
    assert_eq!(wrong.code(), Code::PermissionDenied, "{wrong}");
    coordinator.enrol(&token).await.unwrap();
    let again = coordinator.enrol(&token).await.err().unwrap();
    assert_eq!(again.code(), Code::PermissionDenied, "{again}");
}

#[tokio::test]
async fn a_bad_request_does_not_use_the_token_up() {
    let coordinator = coordinator().await;
    let token = coordinator.token().await;
    let request = EnrolRequest {
        cluster: "prod".to_owned(),
        node: "worker1".to_owned(),
        token: token.clone(),
        certificate_request: vec![1, 2, 3],
        ..EnrolRequest::default()
    };
    let mut client = EnrolmentClient::new(coordinator.dial(None).await.unwrap());
    let refused = client.enrol(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    coordinator.enrol(&token).await.unwrap();
}

#[tokio::test]
async fn an_earlier_generation_is_thrown_out_and_stays_out() {
    let coordinator = coordinator().await;
    let old = coordinator.enrol(&coordinator.token().await).await.unwrap();
    let mut old_agent = coordinator.agent(&old).await;
    let (_messages, stream) = open(&mut old_agent, hello()).await;
    let mut stream = stream.unwrap();
    let agents = coordinator.agents.clone();
    until("its link", || !agents.connected().is_empty()).await;

    let new = coordinator.enrol(&coordinator.token().await).await.unwrap();
    assert_eq!(new.0.generation, 2);
    let end = end_of(&mut stream).await;
    assert_eq!(end.code(), Code::Aborted, "{end}");
    let (_messages, again) = open(&mut old_agent, hello()).await;
    assert_eq!(again.unwrap_err().code(), Code::PermissionDenied);
    let (certificate_request, _) = certificate_request();
    let renewed = old_agent.renew(RenewRequest { certificate_request }).await;
    assert_eq!(renewed.unwrap_err().code(), Code::PermissionDenied);

    let mut new_agent = coordinator.agent(&new).await;
    let (_messages, stream) = open(&mut new_agent, hello()).await;
    let _stream = stream.unwrap();
    until("the new link", || {
        agents.connected().get(&whom()).is_some_and(|link| link.generation == Generation(2))
    })
    .await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_opens_nothing() {
    let coordinator = coordinator().await;
    let foreign = Authority::create().unwrap();
    let (request, key) = certificate_request();
    let pem = foreign.agent(&request, &whom(), Generation(1), AGENT_LIFE).unwrap();
    let dialled = coordinator.dial(Some((pem, key.serialize_pem()))).await;
    let refused = match dialled {
        Err(refused) => refused,
        // With TLS 1.3 the client hears of it with its first call.
        Ok(channel) => {
            let mut client = EnrolmentClient::new(channel);
            client.enrol(EnrolRequest::default()).await.unwrap_err()
        }
    };
    assert!(matches!(refused.code(), Code::Unavailable | Code::Unknown), "{refused}");
}

#[tokio::test]
async fn agents_and_strangers_are_no_operators() {
    let coordinator = coordinator().await;
    let enrolled = coordinator.enrol(&coordinator.token().await).await.unwrap();
    let agent = (enrolled.0.certificate.clone(), enrolled.1.serialize_pem());
    for client in [None, Some(agent)] {
        let mut stranger = OperatorClient::new(coordinator.dial(client).await.unwrap());
        let refused = stranger.status(StatusRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        assert!(stranger.issue_token(TokenRequest::default()).await.is_err());
    }
    let (_messages, stranger) =
        open(&mut AgentLinkClient::new(coordinator.dial(None).await.unwrap()), hello()).await;
    assert_eq!(stranger.unwrap_err().code(), Code::Unauthenticated);
    let pair = coordinator.authority.operator("anna").unwrap();
    let channel = coordinator.dial(Some((pair.certificate, pair.key))).await.unwrap();
    OperatorClient::new(channel).status(StatusRequest::default()).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_has_obeyed_a_later_epoch_is_not_served() {
    let coordinator = coordinator().await;
    let enrolled = coordinator.enrol(&coordinator.token().await).await.unwrap();
    let mut agent = coordinator.agent(&enrolled).await;
    let late = Some(Hello { protocol: 1, epoch: 99, ..Hello::default() });
    let (_messages, stream) = open(&mut agent, late).await;
    let end = end_of(&mut stream.unwrap()).await;
    assert_eq!(end.code(), Code::FailedPrecondition, "{end}");
    assert!(coordinator.agents.connected().is_empty());
}
