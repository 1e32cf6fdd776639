# ruff: noqa: RUF001 - letters of other scripts are what this file is about
"""How models refuse, a language an entry, as patterns; `<name>` in a pattern stands for that part of its entry.

REFUSALS["nl"].sorry, REFUSALS["nl"].says

They are read over the beginning of an answer as `refusal.folded` makes it: NFKC, lower case, plain apostrophes, no Arabic vowel signs, one
form of alif. They come from sentences that models write, and are not translations of each other. In each language it is "I cannot help with
that", "I cannot answer this request" and "as an AI I cannot"; never "we cannot refund" or "I cannot find your order".
To add a language add an entry, and to `tests/test_quality_refusal.py` sentences that refuse and sentences that only sound so.
"""

from typing import NamedTuple


class Refusal(NamedTuple):
    """How a language refuses."""

    sorry: str
    """What may stand before, and be followed by punctuation, a space, and words of `but`."""
    but: str
    parts: dict[str, str]
    says: tuple[str, ...]
    """Any of them is a refusal."""


REFUSALS = {
    "en": Refusal(
        sorry=r"(?:i'm|i am) (?:\w+ )?sorry|sorry|(?:i'm|i am) afraid(?: that)?|unfortunately|i apologi[sz]e|(?:my )?apologies",
        but=r"but |however,? ",
        parts={
            "unable": r"can't|cannot|can not|won't|will not|(?:won't|will not) be able to|(?:am|'m) (?:unable|not able) to"
            r"|(?:must|have to) (?:decline|refuse) to",
            "declining": r"(?:must|have to|will have to) (?:respectfully )?(?:decline|refuse) (?:this|that|your|the|such) request",
            "helping": r"(?:help|assist)(?: you)? with (?:that|this|it\b|your request|such)|comply|do (?:that|this)\b"
            r"|fulfil?l (?:that|this|your|such)",
            "making": r"provide|generate|create|write|produce|answer|discuss|engage in|share|complete",
            "such": r"(?:that|this|such|any|content|your) (?:\w+ )?(?:request|question|content|material|information|kind|type)",
            "ai": r"an? (?:ai|artificial intelligence|large language model|language model)\b",
        },
        says=(r"i ?<unable> (?:<helping>|<making> <such>)", r"i <declining>", r"as <ai>[\w ]*,? i\b", r"i(?:'m| am) (?:just )?<ai>"),
    ),
    "de": Refusal(
        sorry=r"(?:es )?tut mir (?:sehr |wirklich )?leid|entschuldigung|entschuldigen sie(?: bitte)?|ich bitte um entschuldigung"
        r"|ich bedauere|leider|bedauerlicherweise",
        but=r"aber |doch |jedoch |dass ",
        parts={
            "can": r"ich (?:kann|darf|werde)|(?:kann|darf|werde) ich",
            "you": r"(?:(?:ihnen|dir|euch|leider) ){0,2}",
            "this": r"(?:diese[mrs]?|ihre[mr]?|deine[mr]?|solchen?|diese art von) "
            r"(?:anfragen?|bitten?|frage|aufforderung|aufgabe|wunsch|anliegen)",
            "with": r"dabei|damit|hierbei|bei <this>",
            "help": r"(?:weiter)?helfen|unterstützen|behilflich sein",
            "do": r"beantworten|erfüllen|nachkommen|bearbeiten|ausführen|entsprechen",
            "ai": r"(?:ki|künstliche intelligenz|(?:großes |ki-)?sprachmodell|ki-(?:modell|assistent|assistentin|system))(?![\w-])",
        },
        says=(
            r"<can> <you><with> (?:leider )?nicht <help>",
            r"<can> <you>nicht <with> <help>",
            r"<with> <can> <you>nicht <help>",
            r"<can> (?:leider )?<this> (?:leider )?nicht <do>",
            r"<this> <can> (?:leider )?nicht <do>",
            r"<can> <you>keine (?:solchen|derartigen) (?:inhalte|texte|informationen) "
            r"(?:bereitstellen|erstellen|generieren|liefern|geben|schreiben|teilen)",
            r"als <ai> (?:kann|darf|habe|bin|besitze|verfüge) ich (?:\w+ ){0,6}(?:nicht|kein\w*)\b",
            r"ich bin (?:nur |lediglich |bloß )?eine? <ai>,? (?:und |daher )?(?:\w+ ){0,4}(?:nicht|kein\w*)\b",
        ),
    ),
    "fr": Refusal(
        sorry=r"(?:je suis )?(?:vraiment |sincèrement )?(?:désolée?|navrée?)|je regrette|je m'excuse|(?:toutes )?mes excuses"
        r"|malheureusement",
        but=r"mais |cependant,? ",
        parts={
            "unable": r"je ne (?:peux|puis|pourrai|suis) (?:malheureusement )?pas(?: en mesure| capable| autorisée? à)?(?: de| d')?"
            r"|je (?:dois (?:refuser|décliner)|refuse) (?:de|d')",
            "this": r"(?:cette|votre|ta|ce type de|ce genre de|de telles) (?:demandes?|questions?|requêtes?|tâches?)",
            "such": r"(?:ce (?:type|genre) (?:de |d')|de tels |un tel |de telles |ce |ces )(?:contenus?|informations?|textes?)",
            "ai": r"(?:ia|intelligence artificielle|(?:grand )?modèle de langage|modèle d'ia|assistante? (?:ia|virtuel(?:le)?))\b",
        },
        says=(
            r"<unable> ?(?:vous |t'|te )?(?:aider|assister) (?:avec|pour|à|dans|sur) (?:cela|ça|ceci|<this>)",
            r"<unable> ?(?:vous |t'|te )?(?:répondre|donner suite|accéder) à (?:cela|<this>)",
            r"<unable> ?(?:satisfaire|traiter|exécuter|honorer) <this>",
            r"<unable> ?(?:vous |te )?(?:fournir|générer|créer|écrire|produire|partager|rédiger) <such>",
            r"<unable> ?faire (?:cela|ça|ceci)\b",
            r"en tant qu(?:e |')(?:\w+ )?<ai>[\w ]{0,40},? je (?:n'|ne )",
            r"je (?:ne )?suis (?:qu'|simplement |seulement )?une? <ai>[\w ]{0,20},? (?:et |donc )?je (?:n'|ne )",
        ),
    ),
    "es": Refusal(
        sorry=r"lo siento(?: mucho)?|lo lamento|lamento|disculp[ae]|mis disculpas|perd(?:ón|ona)|lamentablemente"
        r"|desafortunadamente|por desgracia",
        but=r"pero |sin embargo,? |que |decirle que |decirte que ",
        parts={
            "unable": r"(?:yo )?no (?:puedo|podré|me es posible|estoy en condiciones de|soy capaz de|estoy autorizad[oa] (?:a|para))"
            r"|(?:debo|tengo que) (?:rechazar|negarme a)",
            "this": r"(?:esta|esa|tu|su|dicha|este tipo de|ese tipo de) (?:solicitud(?:es)?|petici(?:ón|ones)|preguntas?"
            r"|tareas?|consultas?)",
            "such": r"(?:(?:ese|este) tipo de|tal|dicho|ese|este) (?:contenidos?|información|material|textos?)",
            "ai": r"(?:ia|inteligencia artificial|(?:gran )?modelo (?:de lenguaje|lingüístico|de ia)|asistente (?:de ia|virtual))\b",
        },
        says=(
            r"<unable> (?:ayudar|asistir|apoyar)(?:te|le|los|les|lo|la)? (?:con|en) (?:eso|esto|ello|<this>)",
            r"<unable> (?:cumplir|atender|responder|procesar|completar|satisfacer)(?: con| a)? <this>",
            r"<unable> (?:proporcionar|generar|crear|escribir|producir|ofrecer|compartir|brindar)(?:te|le|les)? <such>",
            r"<unable> hacer (?:eso|esto)\b",
            r"como (?:una? )?<ai>[\w ]{0,40},? (?:yo )?no\b",
            r"(?:yo )?(?:solo |sólo )?soy (?:solo |sólo |únicamente )?una? <ai>[\w ]{0,20},? (?:y |así que |por lo que )?no\b",
        ),
    ),
    "it": Refusal(
        sorry=r"mi (?:di)?spiace|sono spiacente|(?:sono )?desolat[oa]|mi scuso|scusa(?:mi|te|temi)?|(?:mi )?scusi|purtroppo",
        but=r"ma |però |tuttavia,? ",
        parts={
            "unable": r"(?:io )?non (?:posso|potrò|sono in grado di|mi è possibile)|devo (?:rifiutare|rifiutarmi) di",
            "this": r"(?:quest[ae]|la tua|la sua|la vostra|tale|alla tua|alla sua|a questa"
            r"|quest[oi] tip[oi] di) (?:richiest[ae]|domand[ae])",
            "such": r"(?:(?:questo|quel) (?:tipo|genere) di|tale|tali|simili|questo) (?:contenut[oi]|informazioni|materiale|test[oi])",
            "ai": r"(?:ia|ai|intelligenza artificiale|(?:grande )?modello (?:linguistico|di linguaggio|di ia)"
            r"|assistente (?:ia|ai|virtuale))\b",
        },
        says=(
            r"<unable> (?:aiutar|assister)(?:ti|la|vi|lo|e) (?:con|in|per) (?:questo|ciò|quello|<this>)",
            r"<unable> (?:soddisfare|esaudire|elaborare|accogliere|rispondere(?: a)?) <this>",
            r"<unable> (?:fornir|generar|crear|scriver|produr|condivider)(?:e|ti|le|re) <such>",
            r"<unable> (?:far(?:lo|e (?:questo|ciò|quello)))\b",
            r"(?:in quanto|come|essendo) (?:un[ao']? ?)?<ai>[\w ]{0,40},? (?:io )?non\b",
            r"(?:io )?sono (?:solo |soltanto |semplicemente )?un[ao']? ?<ai>[\w ]{0,20},? (?:e |quindi )?non\b",
        ),
    ),
    "pt": Refusal(
        sorry=r"(?:me )?desculpe?(?:-me|m)?|(?:eu )?peço desculpas?|(?:eu )?lamento(?: muito)?|(?:eu )?sinto muito|infelizmente|perdão",
        but=r"mas |porém,? |no entanto,? ",
        parts={
            "unable": r"(?:eu )?não (?:posso|poderei|consigo|sou capaz de|estou autorizad[oa] a)"
            r"|(?:eu )?(?:preciso|devo|tenho que|tenho de) recusar(?:-me a)?",
            "this": r"(?:[aà] ?)?(?:ess[ea]s?|est[ea]s?|sua|seu|tal|(?:esse|este) tipo de) (?:pedidos?|solicitaç(?:ão|ões)"
            r"|perguntas?|tarefas?)",
            "such": r"(?:(?:esse|este) tipo de|tal|esse|este) (?:conteúdos?|informaç(?:ão|ões)|materia(?:l|is)|textos?)",
            "ai": r"(?:ia|inteligência artificial|(?:grande )?modelo de (?:linguagem|ia)|assistente (?:de ia|virtual))\b",
        },
        says=(
            r"<unable> (?:te |lhe |o |a )?(?:ajudar|auxiliar)(?:-te|-lo|-la|-lhe|-o)?(?: você)? (?:com (?:isso|isto|<this>)|nisso|nisto"
            r"|n(?:ess|est)[ea] (?:pedido|solicitação|pergunta|tarefa))",
            r"<unable> (?:atender|cumprir|responder|processar|realizar|satisfazer)(?: a| ao)? ?<this>",
            r"<unable> (?:fornecer|gerar|criar|escrever|produzir|compartilhar|partilhar)(?:-lhe|-te)? <such>",
            r"<unable> fazer (?:isso|isto)\b",
            r"como (?:uma? )?<ai>[\w ]{0,40},? (?:eu )?não\b",
            r"(?:eu )?sou (?:apenas |só |somente )?uma? <ai>[\w ]{0,20},? (?:e |portanto )?(?:eu )?não\b",
        ),
    ),
    "nl": Refusal(
        sorry=r"sorry|het spijt me(?: zeer| heel erg)?|(?:mijn )?(?:excuses|verontschuldigingen)|helaas",
        but=r"maar |echter,? |dat ",
        parts={
            "can": r"ik (?:kan|mag|zal)|(?:kan|mag|zal) ik",
            "you": r"(?:(?:je|u|jou|jullie|helaas) ){0,2}",
            "this": r"(?:dit|dat|uw|je|jouw|deze|die|dit soort|dergelijke) (?:verzoek(?:en)?|vra(?:ag|gen)|opdracht(?:en)?|taak)",
            "such": r"(?:dit|dat) soort (?:inhoud|content|informatie|teksten|materiaal)|(?:dergelijke|zulke) (?:inhoud"
            r"|content|informatie|teksten)",
            "make": r"maken|geven|leveren|genereren|schrijven|verstrekken|delen",
            "ai": r"(?:ai|kunstmatige intelligentie|(?:groot |ai-)?taalmodel|ai-(?:model|assistent|systeem))(?![\w-])",
        },
        says=(
            r"<can> <you>(?:daar|hier)(?:bij|mee)? (?:helaas )?niet (?:bij |mee )?(?:helpen|assisteren|van dienst zijn)",
            r"<can> <you>niet helpen (?:met|bij) (?:dit|dat|<this>)",
            r"(?:daar|hier)(?:bij|mee)? <can> <you>niet (?:bij |mee )?helpen",
            r"<can> (?:helaas )?niet (?:voldoen|ingaan|antwoorden) (?:aan|op) <this>|<can> (?:helaas )?niet aan <this> voldoen",
            r"<can> (?:helaas )?<this> (?:helaas )?niet (?:beantwoorden|inwilligen|verwerken|uitvoeren)",
            r"<can> <you>(?:geen )?<such> (?:niet )?<make>",
            r"<can> (?:dat|dit) niet (?:voor (?:je|u) )?doen\b|dat <can> niet (?:voor (?:je|u) )?doen\b",
            r"als (?:een )?<ai>[\w ]{0,30},? (?:kan|heb|ben|mag) ik (?:\w+ ){0,6}(?:niet|geen)\b",
            r"ik ben (?:slechts |maar |alleen )?een <ai>,? (?:en |dus )?(?:\w+ ){0,4}(?:niet|geen)\b",
        ),
    ),
    "pl": Refusal(
        sorry=r"(?:bardzo )?przepraszam(?: bardzo)?|(?:bardzo )?(?:jest )?mi przykro|przykro mi(?: bardzo)?|wybacz(?:cie)?|niestety",
        but=r"ale |jednak |lecz |że ",
        parts={
            "unable": r"(?:ja )?nie (?:mogę|będę mógł|będę mogła|jestem w stanie|potrafię)|muszę odmówić",
            "you": r"(?:(?:ci|panu|pani|państwu|wam) )?",
            "in": r"w tym|z tym|przy tym|w tej (?:sprawie|kwestii)|z (?:tą|taką|twoją) prośbą|z tym (?:zadaniem|pytaniem)",
            "this": r"(?:na )?(?:tej|twojej|takiej|t[ęo]|twoj[ęe]|taką|takie|tego|takiego|tych|takich) "
            r"(?:prośb[yęa]?|poleceni[ae]|żądani[ae]|pytani[ae]|zapytani[ae])",
            "such": r"(?:takich|takie|takiej|tego typu|tego rodzaju|podobnych) (?:treści|informacji|informacje|materiałów|tekstów)",
            "ai": r"(?:ai|si|sztuczna inteligencja|(?:duży )?model językowy|model ai|asystent ai)\b",
        },
        says=(
            r"<unable> <you>(?:<in> )<you>(?:pomóc|asystować)",
            r"<unable> <you>(?:pomóc|asystować) <you>(?:<in>)",
            r"<unable> (?:spełnić|zrealizować|wykonać|przetworzyć|odpowiedzieć) <this>",
            r"<unable> <you>(?:tworzyć|generować|udostępnić|udostępniać|podać|podawać|wygenerować|stworzyć|napisać|dostarczyć) <such>",
            r"<unable> tego z?robić",
            r"jako <ai>[\w ]{0,30},? nie (?:mogę|mam|jestem|posiadam|potrafię)",
            r"jestem (?:tylko |jedynie )?(?:<ai>|sztuczną inteligencją|modelem językowym|asystentem ai)[\w ]{0,20},? (?:i "
            r"|więc )?nie\b",
        ),
    ),
    "ru": Refusal(
        sorry=r"(?:мне )?(?:очень )?жаль|извините|извини|простите|прости|прошу прощения|приношу (?:свои )?извинения"
        r"|к сожалению|сожалею",
        but=r"но |однако,? |что ",
        parts={
            "unable": r"(?:я )?(?:\w+ )?не (?:могу|смогу|в состоянии|имею возможности)|(?:я )?(?:должен|должна|вынужден"
            r"|вынуждена) отказаться",
            "you": r"(?:(?:вам|тебе) )?",
            "in": r"с этим|в этом|с (?:этой|вашей|данной|такой) (?:просьбой|задачей)|с (?:этим|вашим|данным"
            r"|таким) (?:запросом|вопросом)",
            "this": r"(?:этот|ваш|данный|такой|твой|подобные|эту|вашу|данную|такую) (?:запросы?|вопрос|просьбу|задачу)",
            "such": r"(?:такой|подобный|подобного рода|такую|подобную|такого рода|подобные|такие) "
            r"(?:контент|информацию|материалы?|тексты?|контента|информации)",
            "ai": r"(?:ии|искусственный интеллект|(?:большая )?языковая модель|ии-(?:модель|ассистент)|модель ии)(?![\w-])",
        },
        says=(
            r"<unable> <you><in> <you>помочь",
            r"<unable> <you>помочь <you><in>",
            r"<unable> (?:выполнить|обработать|удовлетворить|исполнить|ответить на) <this>",
            r"<unable> <you>(?:предоставить|предоставлять|создать|создавать|сгенерировать|генерировать|написать|обсуждать) <such>",
            r"<unable> (?:этого сделать|сделать это(?:го)?|это сделать)",
            r"(?:как|будучи) <ai>,? (?:я )?(?:\w+ ){0,2}не\b",
            r"я (?:—|-|–)? ?(?:всего лишь |просто |только )?<ai>,? (?:и |поэтому )?(?:\w+ ){0,4}не\b",
        ),
    ),
    "zh": Refusal(
        sorry=r"(?:我)?(?:很|非常|十分|深感)?抱歉|对不起|對不起|不好意思|很遗憾|很遺憾|遗憾的是",
        but=r"但是?|不过|不過|可是|然而",
        parts={
            "unable": r"我?(?:目前|现在|暂时|恐怕|實在|实在)?(?:无法|不能|没办法|没有办法|無法|沒辦法|不可以|不便)",
            "you": r"(?:(?:为|向|给|帮|對|对|為|給|幫)(?:您|你))?",
            "do": r"提供|回答|处理|處理|完成|满足|滿足|执行|執行|生成|创作|撰写|讨论|協助|协助|回应|回應|参与|继续",
            "such": r"(?:这个|这些|这一|该|此|这类|此类|这种|这样的|任何此类|這個|這些|該|這類|此類|這種|您的|你的|您的这个"
            r"|有关此类|与此相关的)",
            "what": r"(?:请求|要求|问题|内容|信息|话题|任务|帮助|請求|問題|內容|資訊|話題|任務)",
            "ai": r"(?:一个|一個|一名|一款)?(?:由\w{1,12}(?:开发|训练)的)?(?:ai|人工智能|人工智慧|大?语言模型|大型语言模型"
            r"|大?語言模型|大型語言模型)"
            r"(?:语言模型|語言模型|助手|模型|系统|程序|程式)?",
        },
        says=(
            r"<unable><you><do><such><what>",
            r"<unable>(?:帮助|协助|幫助|協助)(?:您|你)?(?:做|完成|处理|进行|实现|解决|回答)?(?:这个|这件事|这样的事|此事"
            r"|这一点|這個|這件事|此事|<such><what>)",
            r"<unable>(?:在这方面|在此方面|就此|对此)<you>(?:提供)?(?:帮助|协助|幫助)",
            r"<unable>(?:帮助|协助|幫助|協助|帮到|幫到)(?:您|你)(?:[。.!!]|$)|<unable>提供(?:这|這|此|该|該)(?:方面|类|類|种|種)的?(?:帮助|协助|幫助|協助)",
            r"作为<ai>,?(?:我)?<unable>|作为<ai>,?我(?:没有|不具备|不会|并不|沒有|不具備|不會)|作為<ai>,?我?(?:<unable>|沒有"
            r"|不具備|不會)",
            r"我(?:只是|仅仅是|是|僅僅是)<ai>,(?:所以|因此|并且)?(?:我)?(?:<unable>|没有|不具备|不会|沒有|不具備|不會)",
        ),
    ),
    "ja": Refusal(
        sorry=r"(?:大変|誠に)?申し訳(?:ございません|ありません|ないです|ございませんが|ありませんが|ないですが)"
        r"|すみません(?:が)?|すいません(?:が)?"
        r"|ごめんなさい|恐れ入りますが|恐縮ですが|残念ながら|残念ですが",
        but=r"が|しかし|ですが",
        parts={
            "this": r"(?:その|この|ご|そのような|このような|そういった|こういった|そうした)(?:種の|類の)?ご?(?:要望|依頼"
            r"|リクエスト|質問|要求|コンテンツ|情報|内容)",
            "cannot": r"(?:することは|することが|すること|は)?(?:でき|出来)(?:ません|ない|かねます)|(?:いた|致)しかねます"
            r"|(?:られ|えられ)ません|しかねます",
            "do": r"お?(?:応え|答え|応じ|対応|提供|作成|生成|処理|回答|受け|手伝い|支援|共有)(?:する|し|を|いた|致)?",
            "help": r"お手伝い(?:は|が|を)?(?:する(?:こと(?:は|が))?)?(?:でき|出来|いたしかね|致しかね)(?:ません|ない|かねます|ます)",
            "ai": r"(?:ai|人工知能|(?:大規模)?言語モデル)(?:言語モデル|アシスタント|モデル)?",
        },
        says=(
            r"(?:私(?:は|には|では)、?)?<this>(?:に|には|を|は|へは)(?:お)?<do><cannot>",
            r"(?:私(?:は|には|では)、?)?(?:それ|これ|その件|この件|<this>)?(?:に関しては?|については?|に|は)?、?<help>",
            r"(?:私は)?<ai>(?:として|なので|ですので|であるため|のため|に過ぎず)、?[^。!?]{0,30}?(?:できません|ありません"
            r"|持っていません|持ちません|いません)",
        ),
    ),
    "ko": Refusal(
        sorry=r"(?:정말 |대단히 )?(?:죄송합니다(?:만)?|죄송하지만|미안합니다(?:만)?|미안하지만)|유감스럽게도|안타깝게도|아쉽게도",
        but=r"하지만 |그러나 |다만 ",
        parts={
            "this": r"(?:그|이|해당|이러한|그러한|그런|이런|요청하신) ?(?:종류의 |유형의 )?(?:요청|질문|부탁|작업|내용|정보"
            r"|콘텐츠|주제)",
            "do": r"(?:도와|처리|수행|답변|대답|응답|제공|생성|작성|들어|이행|응|따를|답)(?:해|하|할|드릴|줄|주|을|도)?(?: ?드릴| 줄)?",
            "no": r"(?: ?수(?:는|가)? ?없|기 어렵|지 못)",
            "ai": r"(?:ai|인공지능|인공 지능|(?:대규모 )?언어 모델)(?: 언어 모델| 어시스턴트| 모델| 비서)?",
        },
        says=(
            r"(?:저는 |제가 )?<this>(?:을|를|에|에는|에 대해|에 대해서는|은|는|에 대한)? ?(?:답변을 |답을 |도움을 )?<do><no>",
            r"(?:저는 |제가 )?(?:그것은 |그건 |이것은 |이건 |그 부분은 |이 부분은 |그 일은 )?(?:도와 ?드릴|도움을 드릴|도와줄"
            r"|도울)<no>",
            r"(?:저는 )?<ai>(?:로서|이기 때문에|이므로|라서|이라서|일 뿐이며|일 뿐이라)[^.!?]{0,40}?(?:없|않|못)",
        ),
    ),
    "tr": Refusal(
        sorry=r"(?:çok )?üzgünüm|maalesef|ne yazık ki|özür dilerim|kusura bakma(?:yın)?",
        but=r"ama |ancak |fakat ",
        parts={
            "unable": r"\w*(?:e|a|i|ı|u|ü)m(?:em|am|iyorum|ıyorum|eyeceğim|ayacağım|ez durumdayım)\b",
            "you": r"(?:(?:size|sana) )?",
            "about": r"bu konuda|bununla ilgili|bu (?:isteğ|taleb|görev)\w*(?: ile ilgili| konusunda)?|bu tür (?:istek|talep)\w*",
            "this": r"(?:bu|böyle bir|bu tür(?: bir)?|sizin|senin) (?:istek|isteğ|talep|taleb|soru)\w*|isteğiniz[ie]"
            r"|talebiniz[ie]|isteğin[ie]",
            "such": r"(?:bu tür|böyle|bu türden)(?: bir)? (?:içerik|içeriğ|bilgi|metin|metn)\w*",
            "ai": r"(?:bir )?(?:yapay zek[aâ](?: dil)?(?: modeli| asistanı)?|(?:büyük )?dil modeli)",
        },
        says=(
            r"<you><about> <you>(?:yardımcı ol|yardım ed)<unable>",
            r"<this> (?:yerine |cevap |yanıt )?(?:getir|karşıla|yanıtla|cevapla|ver|işle)<unable>",
            r"<such> (?:oluştur|sağla|üret|yaz|ver|paylaş|sun)<unable>",
            r"bunu yap<unable>",
            r"<ai> olarak,? (?:\w+,? ){0,6}?(?:\w*m[ae]m|\w+m[ıiuü]yorum|yok|değil\w*)\b",
            r"ben (?:sadece |yalnızca )?<ai>(?:yim|yım|sadece)?,? (?:ve |bu yüzden )?(?:\w+ ){0,4}?(?:yok|\w+m[ıiuü]yorum|\w*m[ae]m)\b",
        ),
    ),
    "ar": Refusal(
        sorry=r"عذرا|معذرة|(?:انا )?(?:اسف|اسفة)(?: جدا)?|اعتذر|للاسف|مع الاسف|المعذرة",
        but=r"و?لكن(?:ني|ي)? |ف",
        parts={
            "unable": r"(?:انا )?(?:لا يمكنني|لا استطيع|لا اقدر(?: على)?|لن اتمكن من|لن استطيع|لست قادر[اة]* على|غير قادر على)",
            "this": r"(?:هذا|هذه|ذلك|مثل هذا|مثل هذه|تلك) (?:الطلب|السؤال|الطلبات|المهمة)|طلبك|طلبكم|سؤالك",
            "such": r"(?:مثل )?(?:هذا|هذه|ذلك)(?: النوع من)? (?:المحتوى|المعلومات|المواد|النص)",
            "ai": r"(?:نموذجا?|مساعدا?)? ?(?:ذكاء? اصطناعيا?|ذكاءا? اصطناعيا?|لغويا?(?: كبيرا?)?|لغة|للذكاء الاصطناعي"
            r"|الذكاء الاصطناعي)",
        },
        says=(
            r"<unable> (?:مساعدتك|مساعدتكم|المساعدة|تقديم المساعدة) (?:في|ب|على) ?(?:ذلك|هذا|هذه|<this>)",
            r"<unable> (?:تلبية|تنفيذ|الاجابة على|الاجابة عن|الرد على|معالجة|اكمال) (?:<this>)",
            r"<unable> (?:تقديم|انشاء|كتابة|توفير|توليد|مشاركة|انتاج) <such>",
            r"<unable> (?:فعل|القيام ب) ?(?:ذلك|هذا)",
            r"(?:بصفتي|باعتباري|كوني|ك|لكوني) ?<ai>[^.!?]{0,30}?(?:لا|ليس|لست|لن) ",
            r"انا (?:مجرد )?<ai>[^.!?]{0,12}?(?:لا|ليس|لست|لن) ",
        ),
    ),
    "hi": Refusal(
        sorry=r"(?:मुझे )?(?:खेद|अफ़सोस|अफसोस|दुख) है(?: कि)?|(?:कृपया )?क्षमा (?:करें|कीजिए|कीजिएगा)"
        r"|(?:मुझे )?माफ़? ?(?:करें|कीजिए|कीजिएगा)|माफ (?:करें|कीजिए)"
        r"|मैं (?:क्षमा|माफ़ी|माफी) चाहत[ाी] हू[ँं]|दुर्भाग्य से|दुर्भाग्यवश|सॉरी",
        but=r"लेकिन |परन्तु |परंतु |पर |किन्तु |किंतु |मगर |कि ",
        parts={
            "cannot": r"(?:नहीं (?:कर |दे |बना |लिख )?(?:सकत[ाी]|पाऊ[ँं]ग[ाी])|(?:करने|देने|बनाने) में असमर्थ)",
            "in": r"इसमें|इस (?:मामले|विषय|अनुरोध|कार्य|काम|संबंध|बारे) में|ऐसे (?:मामले|अनुरोध|काम) में|इस (?:तरह"
            r"|प्रकार) के (?:अनुरोध|काम) में|इसके साथ",
            "this": r"(?:आपके |आपका |आपकी )?(?:इस|ऐसे|ऐसी|ऐसा|इस तरह की|इस प्रकार की|इस तरह के|इस प्रकार के|यह) "
            r"(?:अनुरोध|प्रश्न|सवाल|सामग्री|जानकारी|कंटेंट|टेक्स्ट)(?: को| का| के| की)?",
            "do": r"(?:पूरा|उत्तर|जवाब|प्रदान|तैयार|उत्पन्न|साझा|स्वीकार)",
            "ai": r"(?:एक )?(?:ai|एआई|कृत्रिम बुद्धिमत्ता|(?:बड़ा )?भाषा मॉडल)(?: भाषा मॉडल| मॉडल| सहायक)?",
        },
        says=(
            r"(?:मैं )?(?:आपकी |आपको )?<in> (?:आपकी |आपको )?(?:कोई )?(?:मदद|सहायता) (?:प्रदान )?<cannot>",
            r"(?:मैं )?<this> (?:<do> )?<cannot>",
            r"(?:मैं )?(?:यह|ऐसा|ये) (?:काम )?नहीं कर सकत[ाी]",
            r"<ai> (?:के रूप में|होने के नाते|होने के कारण),? [^।.!?]{0,40}?(?:नहीं|असमर्थ)",
            r"मैं (?:केवल |सिर्फ |बस )?<ai> हू[ँं](?:,| और| इसलिए)[^।.!?]{0,30}?(?:नहीं|असमर्थ)",
        ),
    ),
}
